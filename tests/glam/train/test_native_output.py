import os

from glam.train.native_output import standard_output_closed


def test_what_native_code_prints_goes_nowhere(capfd):
    os.write(1, b"before\n")
    with standard_output_closed():
        os.write(1, b"native\n")
        os.write(2, b"complaint\n")
    os.write(1, b"after\n")
    assert capfd.readouterr() == ("before\nafter\n", "complaint\n")
