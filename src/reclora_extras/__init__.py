"""Published methods as options, monitoring and tracking, each in a folder of its own."""

from functools import partial

from reclora_kedro import extras

install_line = partial(extras.install_line, distribution="reclora-extras")
"""Returns the line that installs the packages of an extra of this distribution, such as ``mlflow``."""
