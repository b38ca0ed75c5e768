"""Tools that cache results make them again when a helper in another module has changed, and only then.

Each is tried in processes of its own, as their users edit between runs.
"""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

HELPERS = """
def scale(x):
    return x * 2
"""
SHOP = {
    "joblib": """
from joblib import Memory
from codeprint.adapters import joblib_cache
from helpers import scale

@joblib_cache(Memory("cache", verbose=0), ignore=["label"])
def price(amount, *, label=""):
    open("ran", "a").write("1")
    return scale(amount)

print(price(3), price(amount=3, label="again"))
""",
    "dagster": """
import os
from dagster import AssetKey, DagsterInstance, Definitions, materialize
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from codeprint.adapters import dagster_asset
from helpers import scale

@dagster_asset(group_name="shop")
def price():
    open("ran", "a").write("1")
    return scale(3)

os.makedirs("home", exist_ok=True)
with DagsterInstance.local_temp("home") as instance:
    graph = Definitions(assets=[price]).resolve_asset_graph()
    status = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance)).get_status(AssetKey("price"))
    if status != StaleStatus.FRESH:
        materialize([price], instance=instance)
print(scale(3), scale(3))
""",
    "redun": """
from redun import Scheduler
from redun.config import Config
from codeprint.adapters import redun_task
from helpers import scale

redun_namespace = "shop"

@redun_task(check_valid="full")
def price(amount):
    open("ran", "a").write("1")
    return scale(amount)

scheduler = Scheduler(config=Config({"backend": {"db_uri": "sqlite:///redun.db"}}))
scheduler.load()
print(scheduler.run(price(3)), scheduler.run(price(3)))
""",
    "zenml": """
from zenml import pipeline
from codeprint.adapters import zenml_step
from helpers import scale

@zenml_step(enable_cache=True)
def price(amount: int) -> int:
    open("ran", "a").write("1")
    return scale(amount)

@pipeline(enable_cache=True)
def shop():
    price(3)

if __name__ == "__main__":
    import shop as module
    run = module.shop()
    value = run.steps["price"].output.load()
    print(value, value)
""",
    "hamilton": """
import sys
from codeprint.adapters import hamilton_cache
from helpers import scale

def price(amount: int) -> int:
    open("ran", "a").write("1")
    return scale(amount)

if __name__ == "__main__":
    import shop
    from hamilton import driver
    made = driver.Builder().with_modules(shop).with_adapters(hamilton_cache(path="cache")).build()
    print(*(made.execute(["price"], inputs={"amount": 3})["price"] for _ in range(2)))
""",
}


def run(folder):
    """Run the shop in a process; return how often its function has run by now, and what it prints last."""
    environment = os.environ | {
        "HOME": str(folder),  # of what tools and codeprint keep for their users
        "PYTHONPATH": os.pathsep.join(sys.path),
        "ZENML_CONFIG_PATH": str(folder / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
    }
    command = [sys.executable, "-B", "shop.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return len((folder / "ran").read_text()), done.stdout.splitlines()[-1]


@pytest.mark.parametrize("tool", SHOP)
def test_a_result_is_made_again_when_what_its_code_runs_has_changed(tool, tmp_path):
    if find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed: run `make test-adapters`")
    (tmp_path / "shop.py").write_text(SHOP[tool])
    helpers = tmp_path / "helpers.py"
    helpers.write_text(HELPERS)
    assert run(tmp_path) == (1, "6 6")
    helpers.write_text(HELPERS + "\n\ndef unread():\n    return 1\n")
    assert run(tmp_path) == (1, "6 6")
    helpers.write_text(HELPERS.replace("x * 2", "x * 5"))
    assert run(tmp_path) == (2, "15 15")
