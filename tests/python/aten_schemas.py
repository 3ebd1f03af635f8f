"""Writes the schemas of the ATen operators that oxrt lowers: every overload of every name in the table.

    python tests/python/aten_schemas.py   # rewrites crates/oxrt-torch/src/aten/schemas.tsv

Run it after names are added to `aten/table.rs`. A `.pt2` leaves arguments out that have their default value, and
TorchScript names no overloads: both are resolved by these schemas.
"""
import pathlib
import re

import torch
import torchvision  # noqa: F401  registers its operators
import torch.ao.quantization.fx._decomposed  # noqa: F401  registers `quantized_decomposed`

try:
    import torchao.quantization  # noqa: F401  registers `torchao`
except ImportError:
    # Lines that are there are kept.
    pass

SRC = pathlib.Path(__file__).parents[2] / "crates/oxrt-torch/src/aten"


def main():
    table = SRC.joinpath("table.rs").read_text()
    rows = {}
    old = SRC.joinpath("schemas.tsv")
    for line in old.read_text().splitlines():
        target, schema = line.split("\t")
        rows[target] = schema
    names = set()
    body = table[: table.index("#[cfg(test)]")]
    for quoted in re.findall(r'\("((?:[^"\\]|\\\n\s*)*)",', body):
        for name in quoted.replace("\\\n", " ").split():
            if "/" in name:
                parts = name.split("/")
                names.add((parts[0], parts[1]))
            else:
                names.add(("aten", name.split(".")[0]))
    for s in torch._C._jit_get_all_schemas():
        space, name = s.name.split("::")
        overload = s.overload_name or "default"
        functional = name[:-1] if name.endswith("_") and not name.endswith("__") else name
        if (space, functional) not in names and (space, name) not in names:
            continue
        if overload == "out" or overload.endswith("_out") or "Dimname" in str(s) or "Generator" in overload:
            continue
        # `split.default` is TorchScript's own word for `split.sizes`.
        if any(a.is_out for a in s.arguments) or s.name == "aten::split" and overload == "default":
            continue
        target = f"{space}.{functional}.{overload}"
        if target in rows and not (functional == name and target not in rows):
            continue
        text = str(s)
        if "Tensor" not in text or overload == "hacked_twin":
            continue
        if functional != name:
            # Known in place only: the functional form has the same arguments.
            if any(str(o).startswith(f"{space}::{functional}{'.' + s.overload_name if s.overload_name else ''}(")
                   for o in torch._C._jit_get_schemas_for_operator(f"{space}::{functional}")):
                continue
            text = text.replace(f"{space}::{name}", f"{space}::{functional}", 1).replace("(a!)", "")
        rows[target] = text
    old.write_text("".join(f"{t}\t{s}\n" for t, s in sorted(rows.items())))
    print(len(rows), "schemas")


if __name__ == "__main__":
    main()
