"""Every check of the repository. `nox` runs the default ones, `nox -s tests -- -k ramp` a part, `nox -l` lists them.

The sessions run in the environment of nox itself (`pip install -c constraints.txt -e '.[dev]'`), so that PyTorch is
installed once; only `lowest` creates its own.
"""

import shutil
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "tests", "wheel"]

BENCHMARKS = ["--benchmark-quiet", "--override-ini=python_files=bench_*.py", "--override-ini=python_functions=bench*"]
#: Without these, glibc returns freed memory to the system and asks for it again, which makes times vary by half.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
#: Largest wheels, in bytes, by the beginning of their names: the code alone takes 1.1 MB, weights are in the other one.
LARGEST = {"dreamer4_conformance-": 1_200_000, "dreamer4_conformance_demo-": 4_000_000}
#: Programs that play with and without the demo's package, with their exit status and a text that they print.
DEMO_PROGRAMS = [
    (
        "from dreamer4_impl.play.loading import open_world; from dreamer4_impl.play.session import Session; "
        "session = Session(open_world(None, None, None, 'cpu'), clip=0, seed=0, steps=1); session.step({}); "
        "print('frame', session.frame)",
        0,
        "frame 1",
    ),
    (
        "import sys; sys.modules['dreamer4_conformance_demo'] = None; "
        "from dreamer4_impl.play.command import main; sys.exit(main(['--no-browser']))",
        2,
        "pip install 'dreamer4-conformance[demo]'",
    ),
]
#: Installed for development and not required by the wheel: hidden while the wheel is tested.
HIDDEN = ["beartype", "jax", "jsonschema"]


def run(session: nox.Session, module: str, *arguments: str, **variables: str) -> None:
    """Run `python -m module` in the environment of nox."""
    session.run(sys.executable, "-m", module, *arguments, env=variables, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, as linter and formatter; spelling; names; the directions of imports."""
    run(session, "ruff", "check")
    run(session, "ruff", "format", "--check")
    run(session, "codespell_lib")
    session.run(sys.executable, "tools/language.py", external=True)
    session.run(str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache", external=True)


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict."""
    run(session, "mypy", "--num-workers", "2")
    run(session, "mypy", "conformance/dreamer4_conformance_plugin.py")
    run(session, "mypy", "tools", "noxfile.py")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests but the long ones, among them the suite on the bundled implementation, with its report."""
    # Three workers for two cores, because tests of hangs and limits wait; worksteal, because the longest test would
    # otherwise begin last and leave the other workers idle.
    # Threads that wait for each other must not keep a core from another worker.
    run(session, "pytest", "-n", "3", "--dist", "worksteal", *session.posargs, OMP_WAIT_POLICY="passive")


@nox.session
def conformance(session: nox.Session) -> None:
    """Check the bundled implementation against the paper by the command, and print its report."""
    run(session, "dreamer4_conformance", "run", *session.posargs)


@nox.session
def gallery(session: nox.Session) -> None:
    """The page of public implementations and their badges, from the committed reports, in the directory gallery/."""
    run(session, "dreamer4_conformance", "gallery", "--reports", "conformance/reports", "--out", "gallery")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build both wheels, check their sizes, install them in a separate directory and run suite and demo from there."""
    folder = Path(session.create_tmp()).resolve()
    shutil.rmtree(folder)
    site, dist = folder / "site", folder / "dist"
    run(session, "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(dist), ".", "./demo")
    wheels = {name: next(dist.glob(f"{name}*.whl")) for name in LARGEST}
    for name, file in wheels.items():
        if file.stat().st_size > LARGEST[name]:
            session.error(f"{file.name} must have at most {LARGEST[name]} bytes; got {file.stat().st_size}")
    run(session, "pip", "install", "-q", "--no-deps", "--target", str(site), *map(str, wheels.values()))
    session.chdir(folder)
    for program, status, printed in DEMO_PROGRAMS:
        output = session.run(
            sys.executable,
            "-c",
            program,
            env={"PYTHONPATH": str(site)},
            external=True,
            success_codes=[status],
            silent=True,
        )
        assert printed in str(output), output
    Path("pytest.ini").touch()  # without it pytest would read pyproject.toml, which users of the wheel do not have
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({HIDDEN})); import dreamer4_conformance, pytest;"
        f"assert dreamer4_conformance.__file__.startswith({str(site)!r}), dreamer4_conformance.__file__;"
        "sys.exit(pytest.main(['-q', '--pyargs', 'dreamer4_conformance.suite', '--dreamer4-eq=1,4,8,11']))"
    )
    session.run(sys.executable, "-c", program, env={"PYTHONPATH": str(site)}, external=True)


@nox.session(venv_backend="venv", python="3.11")
def lowest(session: nox.Session) -> None:
    """The tests with the lowest version of every dependency.

    torch 2.11.0 from PyPI brings several gigabytes of CUDA libraries; the index of CPU builds does not (see ci.yml).
    """
    extras = ".[atari,jax,lerobot,minari,minigrid,pytest,torch,train,triton,video]"
    test_tools = ["beartype", "jsonschema", "playwright", "pytest-xdist", "pyyaml", "sympy"]
    session.install("-c", "constraints-lowest.txt", "-e", extras, *test_tools)
    folders = ["reference", "impl", "conformance", "benchmarks/tests", "benchmarks/gpu/tests", "studies", "vectors"]
    session.run("pytest", "-n", "2", *(session.posargs or folders))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site with its gallery, offline, warnings as errors; verify links, addresses and loaded files.

    Needs the extra `docs`. `-- OUT` names the directory, build/site by default.
    """
    site = (session.posargs or ["build/site"])[0]
    run(session, "sphinx", "-b", "html", "-W", "--keep-going", "--fresh-env", "docs", site)
    run(session, "dreamer4_conformance", "gallery", "--reports", "conformance/reports", "--out", f"{site}/gallery")
    run(session, "docs.verify", site)


@nox.session
def nightly(session: nox.Session) -> None:
    """The long runs: every seed, the long Hypothesis profile."""
    run(session, "pytest", "-n", "2", "-m", "nightly", "--dreamer4-profile", "nightly", *session.posargs)


@nox.session
def seeds(session: nox.Session) -> None:
    """The bundled implementation at 350 seeds, or `-- --peers OWNER/NAME` at 20: hours. Resumes from its log."""
    session.run(sys.executable, "conformance/reports/seeds.py", *session.posargs, external=True)


@nox.session
def flex(session: nox.Session) -> None:
    """The attention backends that are compiled for each shape."""
    run(session, "pytest", "-n", "2", "-m", "flex", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Speed and exact counters of every backend in one table; fails on a regression.

    `-- --base REV` compares times with a commit, `-- --record` records the counters of this version of torch.
    """
    plugin = ["-p", "pytest_benchmark.plugin", *BENCHMARKS]
    variables = {"OMP_NUM_THREADS": "1", "KINETO_LOG_LEVEL": "99"}
    run(session, "pytest", "benchmarks/bench_workloads.py", *plugin, *session.posargs, **variables, **MALLOC)
    # What the page "Performance" promises of attention is measured with the allocator's defaults, as users have them.
    run(session, "pytest", "benchmarks/bench_acceptance.py", *plugin, **variables)


@nox.session
def peers(session: nox.Session) -> None:
    """The suite on other people's implementations, found in $DREAMER4_PEERS.

    They are installed into a separate directory, without the dependencies that they declare (another torch among them):
    peers.txt lists the packages needed to import them.
    """
    site = str(Path(".nox/peers-site").resolve())
    run(session, "pip", "install", "-q", "--no-deps", "--upgrade", "--target", site, "-r", "peers.txt")
    run(session, "pytest", "-m", "peers", *session.posargs, PYTHONPATH=site)
