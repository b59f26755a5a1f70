"""Every public function and method documents its arguments, its result and the exceptions that it raises itself."""

import ast
import re
from pathlib import Path

import dreamer4_impl

PACKAGE = Path(dreamer4_impl.__file__).parent
#: Their arguments are tensors' addresses and strides, listed once in the module docstring.
KERNELS = PACKAGE / "attention" / "triton" / "kernels.py"


def public_functions(source):
    """Public functions of a module and public methods of its public classes, with their names."""
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        in_class = isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        for function in node.body if in_class else [node]:
            if isinstance(function, ast.FunctionDef) and not function.name.startswith("_"):
                yield f"{node.name}.{function.name}" if in_class else function.name, function


def entries(docstring, section):
    """Names listed in a section of a Google-style docstring; {""} if it has text but no names."""
    text = re.search(rf"^{section}:\n((?:    .*\n|\n)+)", docstring + "\n", re.MULTILINE)
    return set(re.findall(r"^    (?:(\w+): )?", text[1], re.MULTILINE)) if text else set()


def missing_entries(function):
    docstring = ast.get_docstring(function) or ""
    arguments = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)} - {"self", "cls"}
    raised = {ast.unparse(n.exc).split("(")[0] for n in ast.walk(function) if isinstance(n, ast.Raise) and n.exc}
    yield from arguments - entries(docstring, "Args")
    yield from raised - entries(docstring, "Raises")
    is_property = any(ast.unparse(decorator) == "property" for decorator in function.decorator_list)
    returns_none = ast.unparse(function.returns or ast.Constant(None)) == "None"
    if not (is_property or returns_none or entries(docstring, "Returns")):
        yield "Returns"


def test_public_functions_document_arguments_result_and_exceptions():
    missing = [
        f"{source.relative_to(PACKAGE)}: {name}: {entry}"
        for source in sorted(PACKAGE.rglob("*.py"))
        if source != KERNELS
        for name, function in public_functions(source)
        for entry in missing_entries(function)
    ]
    assert missing == []
