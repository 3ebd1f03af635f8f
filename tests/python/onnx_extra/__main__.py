"""Cases of ONNX operators that have no official ones, with onnxruntime's answers.

    python tests/python/onnx_extra --cases target/onnx-cases-extra [--oxrt target/fast/oxrt] [--suite contrib] [--only REGEX]

writes `<suite>/<case>/model.onnx` and `test_data_set_0/{input,output}_<i>.pb`, the layout of the official cases, and
`<suite>/tolerances.json` for the cases that are not held to rtol 1e-4, atol 1e-5. With --oxrt every case is run and
judged; the exit status is 1 when one fails that the suite does not list in KNOWN.
"""
import argparse
import importlib
import re
import shutil
import sys
from pathlib import Path

from core import Suite, judge

SUITES = ["contrib", "ml", "standard", "images", "types", "optimised", "opsets"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--cases", required=True, type=Path)
    p.add_argument("--oxrt", type=Path)
    p.add_argument("--device", default="cpu")
    p.add_argument("--suite", action="append", choices=SUITES)
    p.add_argument("--only", default="")
    p.add_argument("--verbose", action="store_true", help="says why a case could not be made")
    args = p.parse_args()
    bad = total = 0
    for name in args.suite or SUITES:
        suite = Suite(name, args.cases / name, re.compile(args.only), args.verbose)
        module = importlib.import_module(f"suite_{name}")
        if not args.only:
            shutil.rmtree(suite.path, ignore_errors=True)
        module.make(suite)
        suite.finish()
        passed, failed = 0, []
        for case in suite.cases if args.oxrt else []:
            problem = judge(args.oxrt, case, args.device)
            known = getattr(module, "KNOWN", {}).get(case.name)
            if problem is None and known:
                failed.append((case.name, f"passes, but is listed as: {known}"))
            elif problem is not None and not known:
                failed.append((case.name, problem))
            else:
                passed += 1
        for case, problem in failed:
            print(f"{name}/{case}: {problem}")
        made = len(suite.cases)
        print(f"{name}: {made} cases" + (f", {passed} as expected" if args.oxrt else ""), flush=True)
        bad, total = bad + len(failed), total + made
    if args.oxrt:
        print(f"{total - bad} of {total} cases as expected")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
