"""Random settings and command lines: valid, nearly valid and absurd ones."""

import random
from collections.abc import Mapping, Sequence

from dreamer4_impl.checkpoints.settings import TrainingSettings, settings_to_json
from dreamer4_impl.checkpoints.toml import flattened
from dreamer4_impl.models.presets import tiny

TABLES = (
    "model",
    "data",
    "batches",
    "optimiser",
    "execution",
    "records",
    "tokenizer",
    "dynamics",
    "agent",
    "imagine",
    "model.tokenizer",
    "model.dynamics",
    "model.agent",
    "model.tokenizer.encoder",
    "model.dynamics.transformer",
    "model.dynamics.actions",
    "only",
    "only.tokenizer",
    "only.dynamics",
    "phase",
    "model.preset",
)
NAMES = (*(name for name, _ in flattened(settings_to_json(TrainingSettings("tokenizer", tiny())))), *TABLES)
INTEGERS = ("0", "1", "2", "3", "7", "16", "-1", "-7")
LARGE = ("2147483648", "9223372036854775807", "9223372036854775808", f"1{'0' * 30}", f"-1{'0' * 30}", "9" * 5000)
NUMBERS = (
    "0.0",
    "-0.0",
    "0.5",
    "1.0",
    "1.5",
    "-0.5",
    "1e-30",
    "1e30",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "1_0",
    "0x10",
    "007",
)
TEXTS = (
    "",
    "none",
    "None",
    "null",
    "true",
    "false",
    "True",
    "x",
    "'x'",
    '"',
    "'",
    '""',
    "cpu",
    "cuda",
    "cuda:7",
    "meta",
    "auto",
    "cpu:1",
    "tiny",
    "small",
    "eager",
    "sdpa",
    "flex",
    "triton",
    "chunked",
    "bfloat16",
    "float16",
    "ddp",
    "fsdp",
    "cosine",
    "inductor",
    "abacus",
    "lpips",
    "torchmetrics",
    "vgg",
    "sequence",
    "skip",
    "full",
    "/proc/nowhere",  # where no directory can be made
    "é",
    "τ",
    "\u2028",
    "\x7f",
    "a\nb=1",
    "1\nb=2",
    "\0",
    "\ud800",
    "%s",
    "{}",
    "$HOME",
    "~",
    "..",
)
COMPOUND = (
    "[]",
    "[1]",
    "[1, 2]",
    "[0.5, 0.5]",
    "['x']",
    "[[]]",
    "[1, 'x']",
    "{}",
    "{a = 1}",
    "{preset = 'tiny'}",
    "[{}]",
    "[{kind = 'categorical', name = 'move', size = 4}]",
    "[{kind = 'x'}]",
    "[{kind = ['x']}]",
    "{steps = 3}",
    "[" * 3000,
    "[" * 200 + "]" * 200,
    "{a = " * 300,
    "2020-01-01",
    "07:32:00",
    "[2020-01-01]",
    "1 # one",
    "{a = 1, a = 2}",
    "[nan, inf]",
    "b'x'",
    "[true]",
)


def random_value(chosen: random.Random) -> str:
    """Text of a value: numbers half of the time."""
    pool = chosen.choice((INTEGERS, INTEGERS, LARGE, NUMBERS, NUMBERS, TEXTS, TEXTS, COMPOUND))
    return chosen.choice(pool)


def random_setting(chosen: random.Random) -> str:
    """Text for `--set`, one in ten of an unusual form."""
    name, value = chosen.choice(NAMES), random_value(chosen)
    form = chosen.random()
    if form < 0.9:
        return f"{name}={value}"
    absurd = (
        name,
        "=",
        f"={value}",
        f"{name}==",
        f".{name}=1",
        f"{name}.=1",
        f"{name}.x={value}",
        f"only.{name}={value}",
        f"only.tokenizer.{name}={value}",
        f"{name[:-1]}={value}",
        f"{name}\n={value}",
        "a." * 2000 + "b=1",
        "",
        " ",
        f" {name} = {value} ",
        f"--{name}={value}",
        value,
    )
    return chosen.choice(absurd)


def random_words(
    chosen: random.Random, arguments: Sequence[Sequence[str]], options: Mapping[str, Sequence[str]]
) -> list[str]:
    """Words of a command line from pools of values; one option in ten has any value, and a few words are misplaced.

    Args:
        chosen: source of the choices.
        arguments: pools of the positional arguments.
        options: pool of values of each option; an empty pool is a flag, and a pool that ends with "only" is never
            replaced by other values, because some would be legal and take hours.
    """
    groups = [[chosen.choice(pool)] for pool in arguments if chosen.random() < 0.97]
    required = [name for name in options if name.endswith("!")]
    names = [*required, *chosen.sample(sorted(options), chosen.randint(0, min(4, len(options))))]
    groups += [_option(chosen, name, options[name]) for name in dict.fromkeys(names) if chosen.random() < 0.97]
    if chosen.random() < 0.05:
        groups.insert(chosen.randint(0, len(groups)), [random_value(chosen)])
    if chosen.random() < 0.1:
        chosen.shuffle(groups)
    return [word.replace("\0", "0") for group in groups for word in group]


def _option(chosen: random.Random, name: str, pool: Sequence[str]) -> list[str]:
    fixed, values = pool[-1:] == ("only",), [value for value in pool if value != "only"]
    if not values or chosen.random() < 0.02:
        return [name.removesuffix("!")]
    any_value = not fixed and chosen.random() < 0.1
    return [name.removesuffix("!"), random_value(chosen) if any_value else chosen.choice(values)]
