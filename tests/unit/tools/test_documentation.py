"""The README tells of every tool what its declaration says."""

from pathlib import Path

from services.tools import documentation
from services.tools.registry import Registry

README = Path(documentation.__file__).parent / "README.md"


def test_the_readme_has_the_table_of_today() -> None:
    """`python -m services.tools.documentation` prints it."""
    assert documentation.table(documentation.built_in()) in README.read_text(encoding="utf-8")


def test_every_file_of_the_service_is_in_its_readme() -> None:
    text = README.read_text(encoding="utf-8")
    files = [path.name for path in README.parent.glob("*.py") if not path.name.startswith("__")]
    assert [name for name in files if f"`{name}`" not in text] == []


def test_every_declaration_is_one_that_a_registry_takes() -> None:
    class Told:
        def __init__(self, declaration: object) -> None:
            self.declaration = declaration

    Registry(Told(declaration) for declaration in documentation.built_in())  # type: ignore[misc]
