"""Campaigns that try to lose a run or to get damage past the reader: prints a table, writes JSON.

    python tests/torture/run.py [--only NAME ...] [--small] [--seed N] [--out FILE]

Exits with 1 where any campaign found a fault. ``--small`` is what the tests run.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import corruption
import descriptors
import full_disk
import kills
import mutations
import resume
import sabotage
import torch

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "torture.json"
CAMPAIGNS: dict[str, Callable[..., dict[str, Any]]] = {
    "resume": resume.campaign,
    "kills": kills.campaign,
    "corruption": corruption.campaign,
    "mutations": mutations.campaign,
    "descriptors": descriptors.campaign,
    "full disk": full_disk.campaign,
    "sabotage": sabotage.campaign,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=list(CAMPAIGNS), default=list(CAMPAIGNS))
    parser.add_argument("--small", action="store_true", help="counts that fit a test")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON is written")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # so that forking is safe
    report = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    report |= {"machine": {"torch": torch.__version__, "python": platform.python_version()}}
    report["command"] = "python tests/torture/run.py" + (" --small" if arguments.small else "")
    for name in arguments.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            seed = {"seed": arguments.seed} if name == "mutations" else {}
            report[name] = CAMPAIGNS[name](Path(folder), small=arguments.small, **seed)
        report[name]["seconds"] = round(time.perf_counter() - begun, 1)
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
        for key, value in report[name].items():
            shown = f"{value:,}" if isinstance(value, int) else str(value)
            print(f"{name:<12} {key:<60} {shown:>16}", flush=True)
    return int(any(report[name]["faults"] for name in arguments.only))


if __name__ == "__main__":
    sys.exit(main())
