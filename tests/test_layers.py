"""The rooms of the package: arrows point down only, and siblings do not know each other."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "codesynth"
BASE = {"errors", "models", "codec", "version"}
SERVING = {"serving", "serving.stream"}
ONLINE = {"serving.http", "serving.limits"}
ALLOWED: dict[str, set[str]] = {
    "cli": {"settings", "local_settings", "options", "process", "asking", "verifying"}
    | {"report", "scale"},
    "asking": {"run", "settings", "readers", "estimate", "commands", "pipeline", "process"}
    | {"journal", "storage", "serving", "serving.client", "serving.limits"}
    | {"serving.offline", "serving.batch"},
    "verifying": {"command_spec", "run", "local_settings", "filters", "storage", "verify"},
    "run": {"command_spec", "settings", "pipeline", "process", "progress", "journal", "storage"}
    | {"serving", "serving.limits"},
    "commands": {"command_spec", "settings", "operators", "filters", "storage"},
    "command_spec": {"pipeline"},
    "settings": {"options", "readers"},
    "local_settings": {"settings", "options", "readers"},
    "options": set(),
    "readers": {"operators", "verify"},
    "process": set(),
    "progress": set(),
    "pipeline": {"serving", "storage", "journal"},
    "operators": {"operators", "storage"},
    "operators.dataflow": {"operators", "pipeline", "storage", *SERVING, "serving.answers"},
    "filters": {"filters"},
    "verify": {"verify", "storage", "serving.stream"},
    "serving": set(),
    "serving.stream": {"serving"},
    "serving.answers": set(),
    "serving.client": {"serving.online", "serving.attempts", "serving.diagnosis"}
    | {"serving.stream", *ONLINE},
    "serving.online": {"serving.attempts", "serving.stream", "serving.http"},
    "serving.attempts": {"serving.outcomes", "serving.diagnosis", "serving.answers", *ONLINE},
    "serving.diagnosis": {"serving.outcomes", "serving.answers", "serving.http"},
    "serving.outcomes": {"serving.answers", "serving.http", "serving.limits"},
    "serving.http": {"serving.http"},
    "serving.limits": {"serving.limits"},
    "serving.offline": {"serving.offline"},
    "serving.batch": {"serving.batch", "serving.http", "serving.answers", "serving.outcomes"}
    | {"serving.limits", "journal", "storage", *SERVING},
    "journal": {"journal", "serving.answers", "serving"},
    "storage": {"storage"},
    "estimate": {"progress"},
    "scale": {"scale", "journal", "storage", "settings", "local_settings", "process"}
    | {"progress", "run", "asking", "commands", "pipeline"},
    "report": {"report", "filters", "journal", "storage", "local_settings"},
}
"""The rooms that each room may import, beside what all may."""


def room_of(module: str) -> str:
    """Name the room of a module, without the package: the longest key of ``ALLOWED`` it is in."""
    names = [key for key in ALLOWED if module == key or module.startswith(f"{key}.")]
    return max(names, key=len, default=module)


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "codesynth":
            names |= {f"codesynth.{each.name}" for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.removeprefix("codesynth.") for name in names if name.startswith("codesynth.")}


def modules() -> list[Path]:
    left_out = {"__main__.py", "__init__.py"}
    return [p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.name not in left_out]


def test_a_module_imports_only_what_lies_below_its_room() -> None:
    used: dict[str, set[str]] = {room: set() for room in ALLOWED}
    for path in modules():
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        room = room_of(module.removesuffix(".__init__"))
        rooms = {room_of(name) for name in imported(path)}
        if room in BASE:
            assert rooms <= BASE
            continue
        assert room in ALLOWED, f"{module} is in no room"
        assert rooms <= BASE | ALLOWED[room] | {room}, module
        used[room] |= rooms
    for room, names in ALLOWED.items():
        if room != "cli":  # it imports by name
            assert names - {room} <= used[room], f"{room} is allowed more than it uses"
