"""What farms are given: the Flamenco script compiled under Node, the simulation, and the templates themselves."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from platelight import cli
from platelight.commands.farm import FILES
from platelight.farm.simulate import Farm, simulate

MANAGER = """
const fs = require('fs');
const vm = require('vm');
// What Flamenco's Manager gives a job type (docs: Job Types): author, frameChunker and the job.
function frameChunker(range, size) {
  const [first, last] = range.split('-').map(Number);
  const chunks = [];
  for (let k = first; k <= last; k += size) {
    const end = Math.min(k + size - 1, last);
    chunks.push(end > k ? `${k}-${end}` : `${k}`);
  }
  return chunks;
}
class Task {
  constructor(name, type) { this.name = name; this.type = type; this.commands = []; this.dependencies = []; }
  addCommand(command) { this.commands.push(command); }
  addDependency(task) { this.dependencies.push(task.name); }
}
const tasks = [];
const job = { settings: JSON.parse(process.argv[2]), addTask: (task) => tasks.push(task) };
const author = { Task: (name, type) => new Task(name, type), Command: (name, args) => ({ name, parameters: args }) };
const context = vm.createContext({ frameChunker, author, job });
vm.runInContext(fs.readFileSync(process.argv[1], 'utf8') + '\\ncompileJob(job); this.type = JOB_TYPE;', context);
console.log(JSON.stringify({ tasks, type: context.type }));
"""


def compiled(**more: object) -> dict[str, list[dict[str, list[object]]]]:
    if shutil.which("node") is None:
        pytest.skip("Node is not installed")
    settings = {
        "plates": "/shots/a/shot.####.exr", "light": "/lights/sky.exr", "output": "/out/a", "frames": "1001-1120",
        "chunk_size": 50, "backdrop": "none", "temporal": "on", "device": "cuda", "wipe": True, **more,
    }  # fmt: skip
    done = subprocess.run(
        ["node", "-e", MANAGER, str(FILES["flamenco"]), json.dumps(settings)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, list[object]]]] = json.loads(done.stdout)
    return found


def test_flamenco_compiles_to_commands_that_the_parser_takes() -> None:
    tasks = compiled()["tasks"]
    assert [task["name"] for task in tasks] == [
        "relight-1001-1050",
        "relight-1051-1100",
        "relight-1101-1120",
        "wipe",
    ]
    assert tasks[-1]["dependencies"] == [task["name"] for task in tasks[:-1]]
    for task in tasks:
        command = task["commands"][0]
        assert command["name"] == "exec"  # type: ignore[call-overload,index]
        assert command["parameters"]["exe"] == "{platelight}"  # type: ignore[call-overload,index]
        parsed = cli.build_parser().parse_args(command["parameters"]["args"])  # type: ignore[call-overload,index]
        assert parsed.command in ("relight", "view")
        if parsed.command == "relight":
            assert (parsed.shot, parsed.temporal, parsed.keep_going) == ("1001-1120", "on", True)
    assert [task["name"] for task in compiled(wipe=False, chunk_size=200)["tasks"]] == ["relight-1001-1120"]


def test_flamenco_settings_have_what_a_manager_asks_for() -> None:
    kinds = {"string", "int32", "float", "bool"}
    for setting in compiled()["type"]["settings"]:  # type: ignore[call-overload]
        assert setting["type"] in kinds
        assert setting.get("required") or "default" in setting
        assert "choices" not in setting or setting["default"] in setting["choices"]


def test_templates_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["farm", "openjd"]) == 0
    assert capsys.readouterr().out.startswith("# Relight a shot on any farm")
    assert cli.main(["farm", "flamenco", "-o", str(tmp_path / "job.js")]) == 0
    assert (tmp_path / "job.js").read_bytes() == FILES["flamenco"].read_bytes()


def test_the_simulation_answers_as_farms_do() -> None:
    calm = Farm(gpus=10, frames=20_000, slow_share=0.0, crash_hours=1e9, spread=0.0, storage=1e9)
    base = simulate(calm)
    # Nothing in the way: all but the start and the neighbors' frames is useful.
    assert base.hours * 3600 * 10 >= 20_000 * calm.compute
    assert base.useful > 0.7
    assert simulate(replace(calm, gpus=20)).frames_per_second == pytest.approx(
        2 * base.frames_per_second, rel=0.03
    )
    starved = simulate(replace(calm, storage=85.0))
    assert starved.frames_per_second <= 1.0
    assert simulate(replace(calm, slow_share=0.3)).tail_hours > base.tail_hours
    crashing = simulate(replace(calm, crash_hours=0.05))
    assert crashing.crashes > 5
    assert crashing.hours > base.hours
    assert simulate(replace(calm, chunk=10)).useful < base.useful  # more neighbors for fewer frames
