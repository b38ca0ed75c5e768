"""A project whose users' LoRAs are exported."""

import json

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project


def configure(project, export, gate_input="user", blend="average", **adapter):
    """A variant `reclora_user` beside the others, and what to export of it."""
    file = project / "conf/test/parameters_export.yml"
    file.unlink(missing_ok=True)
    bootstrap_project(project)
    with KedroSession.create(project, env="test") as session:
        variant = session.load_context().config_loader["parameters"]["finetuning"]["variants"]["reclora"]
    variant = json.loads(json.dumps(variant))
    variant |= {"gate_input": gate_input, "blend": blend}
    variant["adapter"] |= adapter
    file.write_text(json.dumps({"finetuning": {"variants": {"reclora_user": variant}}, "export": export}))
