def test_help_names_one_option_for_the_folder(run):
    ran = run("demo", "--help")
    assert ran.code == 0
    assert "  --out DIR  " in ran.out
    assert "--cache" not in ran.out


def test_a_folder_that_cannot_be_written(run, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("")
    ran = run("demo", "--out", taken)
    assert ran.code == 2
    sentence = f"moegen: the module cache {taken} cannot be used: "
    assert ran.err.startswith(sentence), ran.err
    assert ran.err.endswith("(on the command line --out)\n")
