"""Verdicts on implementations of other projects equal the committed reports."""

import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import cast

import pytest
import torch

from dreamer4_conformance.adapter import Adapter
from dreamer4_conformance.adapters import peers
from dreamer4_conformance.adapters.daniyal_rahman import DaniyalRahman, DaniyalRahmanMarch, UnweightedBootstrap
from dreamer4_conformance.adapters.importing import load
from dreamer4_conformance.adapters.lucidrains import ForwardKL, Lucidrains, NormalisedQueries
from dreamer4_conformance.adapters.nicklashansen import NicklasHansen
from dreamer4_conformance.adapters.vijayabhaskar_ev import VijayabhaskarEv
from dreamer4_conformance.clauses import CLAUSES, Clause
from dreamer4_conformance.run_report import check_implementation
from dreamer4_conformance.verdicts import Result, Status

REPORTS = Path(__file__).parents[2] / "reports"
ADAPTERS = {peer.report: cast("type[Adapter]", load(peer.adapter)) for peer in peers.PEERS}
FAILING = {
    "nicklashansen-dreamer4-bdeddfe": {
        # Agent tokens attend to agent tokens only: `wm_agent_isolated`, the default (model.py:250).
        "dyn.agent-firewall",
        # Every layer mixes time: `--time_every 1`, the default (train_dynamics.py:938).
        "net.factorised",
        # Positions are sinusoids, added to the tokens (model.py:92), not rotations.
        "attn.rope",
        # The tokenizer's time attention returns its input for patches (model.py:282), which is added once more.
        "net.residual",
    },
    "chrisgao99-dreamer4-1d244d5": {
        # Positions are sinusoids, added to the tokens (model.py:92), not rotations.
        "attn.rope",
        # The tokenizer's time attention returns its input for patches (model.py:356), which is added once more.
        "net.residual",
    },
    "daniyal-rahman-ahriuwu-a4764f4": {
        # Levels depend on a random horizon, not on d, and are off the grid (diffusion.py:118-140).
        "eq04.grid",
        "eq04.grid-range",
        "eq04.grid-law",
        "eq04.granularity",
        "eq06.iid-levels",
        # P(d) ∝ 1/d (diffusion.py:331).
        "eq04.step-law",
        # The weight has its maximum at τ = 1, which is pure noise here (diffusion.py:209).
        "eq08.value",
        "eq08.applied",
        # The teacher's prediction is mixed with the true noise, at a clamped level (diffusion.py:403, 414).
        "eq07.teacher-state",
        "eq07.teacher-labels",
        # The target is the teacher's second prediction (diffusion.py:423).
        "eq07.bootstrap-value",
        "eq07.gradient",
        "eq07.absolute",
        # Levels end at 0.1 noise, and new noise enters at each step (eval_dynamics.py:373, 393).
        "eq02.calls",
        "eq02.step",
        # All frames have the label of the generated frame (eval_dynamics.py:378).
        "ctx.corruption",
    },
    "daniyal-rahman-ahriuwu-5f33095": {
        # The velocity error is clamped at 100 (diffusion.py:534).
        "eq07.absolute",
        # Error and weight are averaged over the frames each, and the means multiplied (diffusion.py:545).
        "eq07.bootstrap-value",
        "eq07.gradient",
        "eq08.applied",
        # NaN leaves the bootstrap term out (diffusion.py:537).
        "eq07.nan-visible",
        # P(d) ∝ 1/d (diffusion.py:326).
        "eq04.step-law",
        # The rollout is labelled with noise levels, and returns to its first noise (eval_dynamics.py:421, 447).
        "eq02.calls",
        "eq02.step",
        # The labels of past frames are drawn apart from their noise, in every step (eval_dynamics.py:389, 434).
        "ctx.corruption",
        # The KL is a sample, ln π − ln π_prior of the action (returns.py:289).
        "eq11.kl-direction",
        "eq11.value",
        "eq11.gradient",
        # One NaN stays in the running mean square (returns.py:326).
        "rms.poison",
    },
    "daniyal-rahman-ahriuwu-b36d0de": {
        # The target is the teacher's second prediction; its error is clamped, times ten (diffusion.py:506, 510, 530).
        "eq07.bootstrap-value",
        "eq07.gradient",
        "eq07.absolute",
        "eq08.applied",
        # NaN leaves the bootstrap term out (diffusion.py:513).
        "eq07.nan-visible",
        # Clean frames are labelled with random levels in [0.9, 1] (dynamics.py:873).
        "ctx.corruption",
        # The KL compares the policy at distance 1 with the prior at distance 0 (train_imagination.py:402).
        "rl.prior-start",
    },
    "edwhu-dreamer4-jax-8144b94": {
        # The sampler labels its input z at τ_s with τ_{s+1} (dreamer/imagination.py:188), the clean context too.
        "eq02.calls",
        "ctx.corruption",
        # Returns have no c_t (scripts/train_policy.py:1413); the author's environment does not end.
        "eq10.terminal",
        "eq10.value",
        # L = 2 by default (scripts/train_policy.py:135), for a data set of the author's own.
        "const.values",
        # Positions are sinusoids, added to the tokens once (dreamer/models.py:685), not rotations.
        "attn.rope",
        # Time attention of the tokenizer returns its input for patches (dreamer/models.py:314); it is added once more.
        "net.residual",
        # Action tokens attend to action tokens only (dreamer/models.py:252).
        "net.space-full",
    },
    "klee972-dreamer4-nnx-40cc2d2": {
        # Returns have no c_t (jasmine/dreamer4/train_imagination_policy_calvin.py:226).
        "eq10.terminal",
        "eq10.value",
        # L = 2 by default (jasmine/dreamer4/train_bc_rew_heads_calvin.py:80).
        "const.values",
        # Bins of the mouse have equal widths by default (jasmine/models/dreamer4_models.py:1166).
        "data.actions",
        # Action tokens attend to action tokens only (jasmine/models/dreamer4_models.py:586).
        "net.space-full",
    },
    "4ku-dreamer4-f336dc9": {
        # Time attention returns its input for patches (dreamer4/transformer/layers.py:218); it is added once more.
        "net.residual",
    },
    "lucidrains-dreamer4-0.20.2": {
        # d = 1 is neither drawn nor sampled with.
        "eq02.endpoint",
        "eq04.step-support",
        "eq04.step-law",
        # The flow term is added at every step size.
        "eq07.flow-only-at-dmin",
        "eq07.bootstrap-value",
        "eq07.gradient",
        "eq07.absolute",
        # The KL is reversed, and taken over one softmax of all components.
        "eq11.kl-direction",
        "eq11.value",
        "eq11.gradient",
        "eq11.factored",
        # One NaN stays in the running mean square.
        "rms.poison",
        # Only keys are normalised: `rmsnorm_query = False`, the default (dreamer4.py:1979).
        "attn.qknorm",
        # A clip without actions has a token of zeros, without the learned embedding (dreamer4.py:7927).
        "dyn.action-sum",
        # d = 1 has no embedding (dreamer4.py:5467).
        "dyn.tokens",
        # Frames become context at 10 % noise, but enter the cache without it (dreamer4.py:7261, 7309).
        "ctx.cache",
    },
    "vijayabhaskar-ev-dreamer_v4-98e42c2": {
        # The first frame of a clip is always at τ = 0.9 and d_min (dynamics/trainer.py:696, 730).
        "eq04.grid",
        "eq04.grid-law",
        "eq04.step-law",
        "eq06.iid-levels",
        # Encoded in symlog space, decoded as a mean of raw values (heads.py:85, 233).
        "twohot.round-trip",
        # v_H is a copy of v_{H−1} (imagination/rollout.py:136).
        "eq10.value",
        # Patches of the decoder attend to the latents of all frames (tokenizer/layers.py:565).
        "tok.causal",
        # Positions of patches in the encoder start at the number of latents of the clip (tokenizer/layers.py:436).
        "net.prefix",
        # All frames of a clip drop the same patches (tokenizer/masking.py:26).
        "tok.mae-law",
        # One NaN stays in the running mean square (tokenizer/losses.py:39).
        "rms.poison",
    },
    "machines-in-motion-dreamer-v4-c319a28": {
        # One NaN stays in the running mean square (dreamerv4/loss.py:382).
        "rms.poison",
    },
    "skr3178-DreamerV4-3ee81d8": {
        # One τ for all frames of a sequence (dreamer/models/dynamics.py:237).
        "eq04.granularity",
        # All frames but the last are at τ = 0.1, under the label of the last (dreamer/models/dynamics.py:204, 435).
        "eq07.student-label",
        # Training passes no bootstrap targets: the data is the target at every d (train_phase1.py:170).
        "eq07.teacher-labels",
        "eq07.teacher-state",
        "eq07.same-network",
        "eq07.actions",
        "eq07.flow-only-at-dmin",
        "eq07.bootstrap-value",
        "eq07.gradient",
        "eq07.absolute",
        # Weight 1 in place of w at d_min (dreamer/losses/shortcut_loss.py:151).
        "eq08.applied",
        # A step adds d (ẑ1 − z), without 1/(1 − τ) (dreamer/imagination/rollout.py:136).
        "eq02.step",
        "eq02.endpoint",
        # The model sees the generated frame only (dreamer/imagination/rollout.py:125).
        "ctx.used",
        # Encoded in symlog space, decoded as a mean of raw values (dreamer/models/heads.py:440, 406).
        "twohot.round-trip",
        # Centred and scaled (dreamer/imagination/rollout.py:287).
        "eq11.advantage",
        # An advantage of 0 is in neither set (dreamer/losses/pmpo_loss.py:96).
        "eq11.zero-advantage",
    },
}
#: Forks of edwhu/dreamer4-jax with its models, sampler and returns; kih00 has γ = 0.9 too (configs/base.py:150).
FORKS = ("kih00-dreamer4-jax-f1a4fdb", "Irayshon-Dreamer4-jax-49164b3")
FAILING |= dict.fromkeys(FORKS, FAILING["edwhu-dreamer4-jax-8144b94"])


def clauses(*patterns: str) -> list[Clause]:
    return [clause for clause in CLAUSES if clause.id.startswith(patterns)]


def instance(adapter: type[Adapter]) -> Adapter:
    try:
        return adapter()
    except (FileNotFoundError, ModuleNotFoundError) as absent:
        pytest.skip(f"{adapter.name}: {absent}")


def verdicts(adapter: type[Adapter], *patterns: str) -> dict[str, Result]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of their code
        return {result.id: result for result in check_implementation(instance(adapter), clauses(*patterns))}


def failing(results: dict[str, Result]) -> set[str]:
    return {name for name, result in results.items() if result.status is Status.FAIL}


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.report)
def test_every_peer_has_an_adapter_and_its_report(peer: peers.Peer) -> None:
    adapter = ADAPTERS[peer.report]
    recorded = json.loads((REPORTS / f"{peer.report}.json").read_text(encoding="utf-8"))
    assert (adapter.name, recorded["adapter"]["name"]) == (peer.project, peer.project)
    assert recorded["adapter"]["version"] == peer.commit
    assert {row["id"] for row in recorded["clauses"] if row["status"] == "fail"} == FAILING[peer.report]
    assert (REPORTS / f"{peer.report}.md").is_file()


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.report)
def test_the_table_of_all_peers_has_the_figures_of_the_report(peer: peers.Peer) -> None:
    rows = json.loads((REPORTS / f"{peer.report}.json").read_text(encoding="utf-8"))["clauses"]
    status = [row["status"] for row in rows if row["kind"] != "quality"]
    [line] = [
        x for x in (REPORTS / "README.md").read_text(encoding="utf-8").splitlines() if f"]({peer.report}.md)" in x
    ]
    assert f"| {status.count('pass')} of {len(status) - status.count('not-provided')}, " in line
    failures = status.count("fail")
    assert (f"| {failures} clause{'s' * (failures != 1)}, " if failures else "| none |") in line


@pytest.mark.peers
@pytest.mark.parametrize("report", ADAPTERS)
def test_verdicts_equal_the_committed_report(report: str) -> None:
    version = instance(ADAPTERS[report]).version
    if not report.endswith(version):
        pytest.skip(f"{report} is the report on record; here is version {version}")
    results = verdicts(ADAPTERS[report], "")
    recorded = json.loads((REPORTS / f"{report}.json").read_text(encoding="utf-8"))["clauses"]
    assert failing(results) == FAILING[report]
    assert {name: result.status.value for name, result in results.items()} == {
        row["id"]: row["status"] for row in recorded
    }


@pytest.mark.peers
def test_undeclared_split_and_clean_context_fail() -> None:
    class Undeclared(NicklasHansen):
        readings = {}  # noqa: RUF012

    results = verdicts(Undeclared, "eq04.step", "ctx.corruption")
    assert {"eq04.step-law", "ctx.corruption"} <= failing(results)
    assert "reading A9 = none" in results["ctx.corruption"].behaves_like


@pytest.mark.peers
def test_wrong_teacher_label_fails() -> None:
    class Mislabelled(NicklasHansen):
        def _model(self, network):  # type: ignore[no-untyped-def]
            return super()._model(lambda z, tau, d, actions: network(z, tau, (2 * d).clamp(max=1), actions))

    assert "eq07.teacher-labels" in failing(verdicts(Mislabelled, "eq07.teacher-labels"))


@pytest.mark.peers
def test_forward_kl_fails_the_factored_clause_only() -> None:
    results = verdicts(ForwardKL, "eq11")
    assert failing(results) == {"eq11.factored"}
    assert "pmpo-kl-joint-softmax" in results["eq11.factored"].behaves_like


@pytest.mark.peers
def test_norm_of_keys_only_is_named_and_the_option_for_both_passes() -> None:
    results = verdicts(Lucidrains, "attn.qknorm")
    assert results["attn.qknorm"].behaves_like == ["qknorm-keys-only"]
    assert not failing(verdicts(NormalisedQueries, "attn.qknorm"))


@pytest.mark.peers
def test_undeclared_rotation_in_time_only_is_named() -> None:
    class Undeclared(Lucidrains):
        readings = {name: option for name, option in Lucidrains.readings.items() if name != "A35"}  # noqa: RUF012

    results = verdicts(Undeclared, "attn.rope")
    assert "reading A35 = time" in results["attn.rope"].behaves_like


@pytest.mark.peers
def test_time_in_every_layer_and_isolated_agent_are_named() -> None:
    results = verdicts(NicklasHansen, "net.factorised", "dyn.agent-firewall")
    assert "temporal-everywhere" in results["net.factorised"].behaves_like
    assert "agent-blind" in results["dyn.agent-firewall"].behaves_like


@pytest.mark.peers
def test_flow_term_above_d_min_is_named() -> None:
    results = verdicts(Lucidrains, "eq07.flow-only-at-dmin")
    assert results["eq07.flow-only-at-dmin"].behaves_like == ["flow-everywhere"]


@pytest.mark.peers
def test_a_target_in_x_space_is_named_with_the_factor_of_its_term() -> None:
    for adapter, names in (
        (DaniyalRahman, {"bootstrap-x-space", "loss-factor"}),
        (UnweightedBootstrap, {"bootstrap-x-space"}),
    ):
        results = verdicts(adapter, "eq07.bootstrap-value")
        assert set(results["eq07.bootstrap-value"].behaves_like) == names


@pytest.mark.peers
def test_a_clamp_is_not_named_for_a_product_of_means() -> None:
    results = verdicts(DaniyalRahmanMarch, "eq07.bootstrap-value", "eq07.absolute")
    assert results["eq07.bootstrap-value"].behaves_like == ["factors-averaged-apart"]
    assert results["eq07.absolute"].behaves_like == ["bootstrap-error-clamped"]


@pytest.mark.peers
def test_a_decoder_that_sees_later_frames_does_not_explain_positions_of_the_encoder() -> None:
    results = verdicts(VijayabhaskarEv, "net.prefix", "tok.causal")
    assert not {*results["net.prefix"].behaves_like} & {*results["tok.causal"].behaves_like}


@pytest.mark.peers
def test_imports_of_a_peer_are_removed_again() -> None:
    instance(NicklasHansen)
    assert not {"model", "train_dynamics", "wandb"} & set(sys.modules)
    assert not torch.backends.cuda.matmul.allow_tf32


def test_missing_checkout_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DREAMER4_PEERS", raising=False)
    with pytest.raises(FileNotFoundError, match="DREAMER4_PEERS is not set"):
        peers.checkout("someone/dreamer4")
    monkeypatch.setenv("DREAMER4_PEERS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no checkout of someone/dreamer4"):
        peers.checkout("someone/dreamer4")


def test_blob_hash_equals_git(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert peers.git_blob(tmp_path / "empty") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def test_visits_of_two_states_import_the_package_of_each(tmp_path: Path) -> None:
    for state in ("old", "new"):
        (tmp_path / state / "theirs").mkdir(parents=True)
        (tmp_path / state / "theirs" / "__init__.py").touch()
        (tmp_path / state / "theirs" / "model.py").write_text(f"state = {state!r}\n")
    for state in ("old", "new"):
        with peers.visiting(tmp_path / state):
            assert importlib.import_module("theirs.model").state == state
    assert not {"theirs", "theirs.model"} & set(sys.modules)


def test_visit_restores_modules_search_path_and_random_state(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("import torch\nnumber = torch.rand(1)\nimport absent_here\n")
    search_path, state = sys.path.copy(), torch.random.get_rng_state()
    with peers.visiting(tmp_path, stubs={"absent_here": {}, "sys": {}}):
        import json as theirs

        assert theirs.number is not None  # type: ignore[attr-defined]
        assert "absent_here" in sys.modules
    assert sys.modules["json"] is json
    assert "absent_here" not in sys.modules
    assert (sys.path, sys.modules["sys"]) == (search_path, sys)
    assert torch.equal(torch.random.get_rng_state(), state)
