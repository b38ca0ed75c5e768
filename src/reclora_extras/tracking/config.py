"""Settings of experiment tracking."""

import re
from importlib.util import find_spec

from pydantic import Field, field_validator

from kedro_provenance.parameters import Block
from reclora_extras import install_line


class TrackingConfig(Block):
    """Where runs are logged; `uri` is None where they are not."""

    uri: str | None
    experiment: str = Field(min_length=1)
    model: str = Field(min_length=1)

    @field_validator("uri")
    @classmethod
    def _is_an_address_that_mlflow_takes(cls, uri: str | None) -> str | None:
        if uri is None:
            return None
        if not re.match(r"(?!file:)[a-z][a-z+\d-]+:", uri):  # MLflow 3.17 refuses folders
            raise ValueError(f"{uri!r} is not a database or server; expected for example sqlite:///data/mlflow.db")
        if find_spec("mlflow") is None:
            raise ValueError(f"MLflow is not installed: `{install_line('mlflow')}`, or set null")
        return uri
