"""`init`: what it reads from a package, what it writes, and that the skeleton is judged at once."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dreamer4_conformance.adapter import OPERATIONS, Adapter
from dreamer4_conformance.cli import main
from dreamer4_conformance.joining.matching import match_operations
from dreamer4_conformance.joining.sources import read_sources

RAMP = "import torch\ndef ramp(tau):\n    return 0.9 * tau + 0.1\n"
FILES = ("my_adapter.py", "test_dreamer4.py", ".github/workflows/dreamer4.yml")

#: A loss in other conventions: noise levels and steps as indices, from a model with another order of arguments.
INDEXED = """
import torch
K_MAX = 8

def sample_step_and_sigma(rng, shape, device):
    step_idx = torch.randint(4, shape, generator=rng, device=device)
    ticks = K_MAX * 0.5 ** step_idx
    sigma_idx = K_MAX - torch.floor(torch.rand(shape, generator=rng) * K_MAX / ticks) * ticks
    return step_idx, sigma_idx.long()

def corrupt(x0, noise, sigma_idx):
    sigma = (sigma_idx / K_MAX)[..., None, None]
    return sigma * noise + (1 - sigma) * x0

def flow_loss(model, x, act):
    shape = torch.Size(x.shape[:2])
    step_idx, sigma_idx = sample_step_and_sigma(torch.default_generator, shape, x.device)
    noise = torch.randn_like(x)
    x_noisy = corrupt(x, noise, sigma_idx)
    pred, _ = model(act, step_idx, sigma_idx, x_noisy, mask=None)
    return (pred - x).square().mean()
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamer4_conformance.isolation.worker.is_forkable", lambda device: True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def verdicts() -> Callable[..., dict[str, str]]:
    def run(*clauses: str) -> dict[str, str]:
        main(["run", "my_adapter.py:Mine", "--clause", ",".join(clauses), "--json", "report.json"])
        rows = json.loads(Path("report.json").read_text())["clauses"]
        return {row["id"]: row["status"] for row in rows}

    return run


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


# The skeleton


def test_skeleton_of_a_package_below_src_is_judged_at_once(
    verdicts: Callable[..., dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    write("src/joined/__init__.py", "")
    write("src/joined/losses.py", RAMP)
    write("src/joined/heads.py", "def pmpo(logits, adv): ...\nclass Policy:\n    def value_loss(self, x): ...\n")
    assert main(["init", "src/joined"]) == 0
    said = capsys.readouterr().out
    assert "  ramp_weight      joined.losses.ramp  src/joined/losses.py:2\n" in said
    assert "perhaps pmpo: no parameter for `prior_logits`, `action`, `alpha`, `beta`" in said
    assert "framework torch, level signal, unit float, steps size, k_max 64\n" in said
    adapter = Path("my_adapter.py").read_text()
    assert "    #     candidate joined.heads.Policy.value_loss: a method, which needs an instance\n" in adapter
    assert verdicts("eq08.value", "eq11.value") == {"eq08.value": "pass", "eq11.value": "not-provided"}


def test_conventions_of_the_code_are_converted(
    verdicts: Callable[..., dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    write("indexed.py", INDEXED)
    assert main(["init", "indexed"]) == 0
    assert "level noise, unit integer, steps log2, k_max 8\n" in capsys.readouterr().out
    judged = verdicts("eq01.interpolate", "eq04.grid,eq04.step-law,eq06.x-prediction")
    assert judged == dict.fromkeys(judged, "pass")
    adapter = Path("my_adapter.py").read_text()
    assert "def model(actions, d, tau, z, mask=None):  # as flow_loss calls it" in adapter
    assert "return network(z, tau / self.k_max, 0.5 ** d, actions), None" in adapter


@pytest.mark.parametrize(("steps", "expression"), [("size", "d"), ("count", "1 / d"), ("multiple", "d * 8")])
@pytest.mark.parametrize("framework", ["torch", "numpy"])
def test_each_representation_of_a_step(
    framework: str, steps: str, expression: str, verdicts: Callable[..., dict[str, str]]
) -> None:
    draw = "d = 0.5 ** np.random.default_rng(seed).integers(0, 4, (batch, time))"
    tensors = "torch.tensor(tau), torch.tensor(d)" if framework == "torch" else "tau, d"
    body = f"{draw}\n    tau, d = 0 * d, {expression}\n    return {tensors}\n"
    write("drawn.py", f"import numpy as np\nimport torch\ndef sample_tau(seed, batch, time):\n    {body}")
    main(["init", "drawn.py", "--steps", steps, "--k-max", "8", "--framework", framework])
    assert verdicts("eq04.step-law", "eq04.grid") == {"eq04.step-law": "pass", "eq04.grid": "pass"}


def test_skeleton_has_every_operation_once_with_its_contract(capsys: pytest.CaptureFixture[str]) -> None:
    write("joined.py", RAMP)
    main(["init", "joined.py", "--framework", "jax"])
    text = Path("my_adapter.py").read_text()
    ast.parse(text)
    assert sorted(re.findall(r"^    (?:# )?def (\w+)\(self", text, re.MULTILINE)) == sorted(OPERATIONS)
    contracts = [(getattr(Adapter, name).__doc__ or "").splitlines()[0] for name in OPERATIONS]
    assert [contract for contract in contracts if f'"""{contract}"""' not in text] == []
    assert "class Mine(JaxAdapter):" in text
    assert max(map(len, text.splitlines())) <= 160
    uncommented = re.sub(r"^    # (?=( *)(def|\"\"\"|return))", "    ", text, flags=re.MULTILINE)
    assert len(list(ast.walk(ast.parse(uncommented)))) > len(list(ast.walk(ast.parse(text))))


def test_candidates_are_called_as_far_as_their_parameters_are_known(
    verdicts: Callable[..., dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    losses = "def dynamics_pretrain_loss(net, *, z1, mask, k_max, step=0):\n    return z1, {}\n"
    sampling = "def _sample_step_size(b, t):\n    return d, step_idx\n"
    write("peer/__init__.py", "")
    write("peer/tau.py", f"{RAMP}\ndef policy_loss(logits, prior, a, adv, alpha, beta):\n    return logits.sum(), 1\n")
    write("peer/model.py", f"{losses}{sampling}def dynamics_loss_weights(z): ...\n")
    assert main(["init", "peer", "--k-max", "8"]) == 0
    adapter = Path("my_adapter.py").read_text()
    call = "return peer.model.dynamics_pretrain_loss(network, z1=z1, mask=..., k_max=self.k_max)[0]\n"
    reason = "candidate peer.model.dynamics_pretrain_loss: no argument stands for `mask`"
    assert f"    #     {reason}\n    #     {call}" in adapter
    assert "candidate peer.model._sample_step_size: returns `d`, `step_idx`\n" in adapter
    assert "dynamics_loss_weights" not in adapter
    assert "import peer.tau\n" in adapter  # `tau` is an argument, so the module is not called so
    assert "return peer.tau.policy_loss(logits, prior_logits, action, advantage, alpha, beta)[0]\n" in adapter
    assert verdicts("eq08.value") == {"eq08.value": "pass"}


def test_jax_gets_keys_and_whole_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    body = "return apply_fn(params, z, step_idx, signal_idx, actions)\n"
    loss = f"def shortcut_loss(apply_fn, z1, noise, signal_idx, step_idx, actions, params=None):\n    {body}"
    write("joined.py", f"import jax\ndef sample_levels(rng, b, t):\n    return signal_idx, step_idx\n{loss}")
    assert main(["init", "joined.py", "--k-max", "8"]) == 0
    adapter = Path("my_adapter.py").read_text()
    for line in (
        "import jax\nimport jax.numpy as jnp\n",
        "        tau, d = joined.sample_levels(jax.random.key(seed), batch, time)\n",
        "        return tau / self.k_max, 0.5 ** d\n",
        "        def model(argument_0, z, d, tau, actions=None):  # as shortcut_loss calls it\n",
        "            return network(z, tau / self.k_max, 0.5 ** d, actions)\n",
        "(model, z1, z0, jnp.round(tau * self.k_max).astype(int), jnp.round(-jnp.log2(d)).astype(int), actions)\n",
    ):
        assert line in adapter
    ast.parse(adapter)


def test_test_and_workflow_name_the_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    write("joined.py", RAMP)
    write("tests/test_ramp.py", "")
    write("pyproject.toml", "")
    main(["init", "joined.py"])
    [job] = yaml.safe_load(Path(FILES[2]).read_text())["jobs"].values()
    assert job["steps"][-1]["uses"].startswith("dreamer4-conformance/dreamer4-conformance@")
    assert job["steps"][-1]["with"] == {"adapter": "my_adapter.py:Mine", "extras": "torch"}
    assert {"run": "pip install -e ."} in job["steps"]
    namespace: dict[str, object] = {"__file__": str(Path("tests/test_dreamer4.py").resolve())}
    exec(Path("tests/test_dreamer4.py").read_text(), namespace)
    [mark] = namespace["test_conforms_to_dreamer4"].pytestmark  # type: ignore[attr-defined]
    assert Path(mark.args[0].removesuffix(":Mine")).samefile("my_adapter.py")


# Inspection


def test_nothing_of_the_package_is_executed(capsys: pytest.CaptureFixture[str]) -> None:
    write("joined/__init__.py", "raise SystemExit('executed')\n")
    write("joined/losses/__init__.py", f"open('executed', 'w')\n{RAMP}")
    write("joined/broken.py", "def (:\n")
    write("joined/tests/helpers.py", "def lambda_returns(reward, value, cont, gamma, lam): ...\n")
    assert main(["init", "joined.losses", "--dry-run"]) == 0
    assert "return losses.ramp(tau)" in capsys.readouterr().out
    assert main(["init", "joined"]) == 0
    said = capsys.readouterr().out
    assert "1 operation matched:\n" in said
    assert "not read: broken.py: invalid syntax" in said
    assert not Path("executed").exists()
    assert "joined" not in sys.modules


@pytest.mark.parametrize(
    ("code", "operation", "roles"),
    [
        (
            "def td_lambda(rewards, values, dones, discount, lmbda): ...",
            "lambda_returns",
            "reward value ended gamma lam",
        ),
        ("def add_noise(x0, noise, t): ...", "corrupt", "z1 z0 tau"),
        ("def add_noise(x0, x1, t): ...", "corrupt", "z0 z1 tau"),
        ("def sample_levels(key, batch_size, seq_len, *, kmax): ...", "sample_tau_d", "random batch time k_max"),
        ("class A:\n    @staticmethod\n    def rampWeight(sigma): ...", "ramp_weight", "tau"),
        ("def symexp_twohot_decode(logits, bins=None): ...", "twohot_decode", "logits"),
        ("def shortcut_loss(net, x1, noise, t, dt, a): ...", "dynamics_loss_at", "network z1 z0 tau d actions"),
    ],
)
def test_names_of_the_field_are_recognised(code: str, operation: str, roles: str) -> None:
    write("joined.py", code)
    matches, _ = match_operations(read_sources("joined.py", Path()).functions)
    by_position = [matches[operation].roles[p.name] for p in matches[operation].function.parameters if p.required]
    assert " ".join(by_position) == roles


# Files, answers, errors


def test_existing_files_are_overwritten_with_force_alone(capsys: pytest.CaptureFixture[str]) -> None:
    write("joined.py", RAMP)
    write(FILES[2], "mine")
    assert main(["init", "joined.py"]) == 2
    assert capsys.readouterr().err == (
        f"dreamer4-conformance: {FILES[2]} exists; --force overwrites, --dry-run prints\n"
    )
    assert main(["init", "joined.py", "--dry-run"]) == 0
    assert "class Mine(TorchAdapter):" in capsys.readouterr().out
    assert not Path(FILES[0]).exists()
    assert Path(FILES[2]).read_text() == "mine"
    assert main(["init", "joined.py", "--force"]) == 0
    assert all("joined" in Path(name).read_text() for name in (FILES[0], FILES[2]))
    assert list(Path().rglob(".*partial")) == []


def test_terminal_is_asked_for_what_no_option_sets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("joined.py", RAMP)
    answers = iter(["", "clean", "noise", "", "log2", "12", "8"])
    prompts = []

    def reply(prompt: str) -> str:
        prompts.append(prompt)
        return next(answers)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", reply)
    assert main(["init", "joined.py", "--name", "me/joined"]) == 0
    said = capsys.readouterr().out
    assert "'clean' is no answer; it needs signal or noise\n" in said
    assert "'12' is no answer; it needs a power of two\n" in said
    assert "framework torch, level noise, unit float, steps log2, k_max 8\n" in said
    assert prompts[0] == "Which framework does your code use? (torch, jax, numpy) [torch]: "
    everything = ["--framework", "torch", "--level", "signal", "--unit", "float", "--steps", "size", "--k-max", "64"]
    assert main(["init", "joined.py", "--force", *everything]) == 0


def test_a_directory_of_too_many_files_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dreamer4_conformance.joining.sources.MAX_FILES", 1)
    write("a.py", RAMP)
    assert main(["init", "--dry-run"]) == 0
    write("b.py", RAMP)
    assert main(["init"]) == 2
    assert "with more than 1 Python files; name a smaller directory" in capsys.readouterr().err


def test_files_go_to_another_directory(
    verdicts: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("code/elsewhere.py", RAMP)
    Path("checks").mkdir()
    assert main(["init", "code", "--directory", "checks"]) == 0
    assert capsys.readouterr().out.endswith("next: dreamer4-conformance run checks/my_adapter.py:Mine\n")
    monkeypatch.chdir("checks")
    assert verdicts("eq08.value") == {"eq08.value": "pass"}


def test_end_of_input_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def end(prompt: str) -> str:
        raise EOFError

    write("joined.py", RAMP)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", end)
    assert main(["init", "joined.py"]) == 2
    assert "the input ended at a question" in capsys.readouterr().err
    assert not Path(FILES[0]).exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["absent"], "PACKAGE is 'absent'; it needs a directory, a Python file, or a module that can be imported"),
        (["empty"], "PACKAGE is 'empty', in which there is no Python file"),
        (["joined.py", "--directory", "absent"], "--directory is 'absent', which is no directory"),
        (["joined.py", "--k-max", "12"], "'12' is no power of two such as 64"),
        (["joined.py", "--directory", "occupied"], "cannot write"),
    ],
)
def test_status_2_and_a_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("joined.py", RAMP)
    Path("empty").mkdir()
    write("occupied/.github", "a file, no directory")
    try:
        status = main(["init", *arguments])
    except SystemExit as exit:
        status = exit.code  # type: ignore[assignment]
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert sentence in said.err
    assert "Traceback" not in said.err
