"""What ``import spynco_mm`` adds to what mmagic's models take by themselves."""

import json
import subprocess
import sys
from pathlib import Path

import spynco_mm

CODE = """
import json, sys, time, types, warnings

warnings.simplefilter("ignore")
# The package's folder under another name, so that its __init__ does not run yet.
mends = sys.modules["mends"] = types.ModuleType("mends")
mends.__path__ = [sys.argv[1]]
from mends import compat
compat.check_versions()
compat.before_mmagic()  # without which mmagic cannot be imported
start = time.process_time()
import mmagic.models
middle, before = time.process_time(), set(sys.modules)
import spynco_mm
end = time.process_time()
new = set(sys.modules) - before - set(sys.stdlib_module_names)
packages = {name.partition(".")[0] for name in new} - {name.partition(".")[0] for name in before}
# Not mmagic.engine, whose hooks are mended, and what it needs: they are small.
large = ("mmagic.datasets", "mmagic.evaluation", "mmagic.apis")
more = packages | {name for name in new if name.startswith(large)}
print(json.dumps([middle - start, end - middle, sorted(more)]))
"""


def test_import_loads_no_package_that_mmagics_models_do_not():
    package = Path(spynco_mm.__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(package)],
        cwd=package.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    theirs, ours, more = json.loads(done.stdout.splitlines()[-1])
    message = f"import spynco_mm takes {ours:.2f} s more than the {theirs:.2f} s of mmagic.models"
    print(message)
    others = [name for name in more if name not in ("spynco_mm", *sys.stdlib_module_names)]
    assert not others, f"{message}, and loads {', '.join(others)}"
    assert ours <= 0.3, message
