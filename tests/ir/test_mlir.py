import pytest

from ir import mlir
from ir.errors import Where


@pytest.mark.parametrize("text", ["plain", "größe", r"a\b", r"a\41b", "a\tb"])
def test_names_and_files_come_back_from_locations_as_they_were(text):
    where = Where(f"/some/{text}.py", 7)
    location = mlir.located(text, where)
    assert mlir.name_of(location) == text
    assert mlir.file_and_line(location) == where
