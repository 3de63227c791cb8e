"""`r21d variants`: the size and cost of the networks of Table 2 and of the ablations."""

import json

from r21d_core import R21DError, count_noun
from r21d_core.cli.options import add_command, format_table
from r21d_core.models.cost import cost
from r21d_core.study.variants import NETWORKS, variant_name


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "variants", "print parameters, multiply-adds and output size of the networks")
    add = parser.add_argument
    names = "names or letters, such as R3D or pnnnn; default: Table 2's networks and the ablations"
    add("networks", nargs="*", metavar="NETWORK", help=names)
    add("--depth", type=int, default=18, help="layers: 10, 18 or 34; default 18")
    add("--width", type=int, default=64, help="filters of conv1 and conv2_x; default 64")
    add("--frames", type=int, default=8, help="clip length L; default 8")
    add("--classes", type=int, default=400, help="outputs of the classifier; default 400")
    add("--channels", type=int, default=3, help="input channels, 3 for RGB, 2 for flow; default 3")
    add("--json", action="store_true", help="print JSON instead of a table")


def run(options) -> None:
    for name in ("width", "frames", "classes", "channels"):
        if (number := getattr(options, name)) < 1:
            raise R21DError(f"--{name} {number}: expected 1 or more")
    arguments = options.depth, options.width, options.frames, options.classes, options.channels
    names = list(dict.fromkeys(map(variant_name, options.networks or NETWORKS)))
    costs = {name: cost(name, *arguments) for name in names}
    if options.json:
        keys = ("parameters", "conv_fc_weights", "macs", "final_shape")
        rows = [
            {"name": name, "letters": NETWORKS.get(name, name)} | {key: getattr(c, key) for key in keys}
            for name, c in costs.items()
        ]
        print(json.dumps(rows, indent=1))
        return
    clips, classes = f"{options.channels}×{options.frames}×112×112", count_noun(options.classes, "class", "classes")
    print(f"{options.depth} layers of width {options.width}, clips of {clips}, {classes}")
    columns = ("network", "letters", "parameters", "conv+fc weights", "GMAC/clip", "conv5_x")
    cells = [
        (name, NETWORKS.get(name, name), f"{c.parameters:,}", f"{c.conv_fc_weights:,}", f"{c.macs / 1e9:.3f}",
         "×".join(map(str, c.final_shape)))
        for name, c in costs.items()
    ]  # fmt: skip
    print(format_table(columns, cells, right=columns[2:5]))
