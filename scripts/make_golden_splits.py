#!/usr/bin/env python3
"""make_golden_splits.py – which records `datasets` takes for a slice: tests/golden/splits.txt, a line a case: records, slice,
first record, record behind the last one ("-" where it takes none, or refuses).  Needs datasets."""
import os
from datasets import ReadInstruction

slices = ["[:]", "[:90%]", "[90%:]", "[10%:20%]", "[:50%]", "[50%:]", "[-10%:]", "[:-10%]", "[33%:66%]", "[:1%]", "[99%:]", "[5%:35]",
          "[:5]", "[2:]", "[1:3]", "[-2:]", "[:-2]", "[-3:-1]", "[0:0]", "[3:2]", "[:100%]", "[25%:75%]", "[-25%:-5%]"]
out = []
for n in (1, 2, 3, 5, 7, 10, 50, 150, 250, 333, 1001):
    for s in slices:
        try:
            abs_ = ReadInstruction.from_spec("train" + s).to_absolute({"train": n})[0]
            a, b = abs_.from_, abs_.to
        except Exception:
            a, b = 0, 0
        # a bound beyond the records is refused here, where the library takes what there is
        beyond = "%" not in s and any(abs(int(x)) > n for x in s[1:-1].split(":") if x)
        out.append(f"{n} {s} - -" if a >= b or beyond else f"{n} {s} {a} {b}")
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "splits.txt")
with open(path, "w") as f:
    f.write("\n".join(out) + "\n")
