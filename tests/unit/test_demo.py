"""What `make demo` types, on a machine that cannot boot a host."""

from lab import demo


def test_the_example_is_completed_linted_and_rendered(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIPDEPLOY_INVENTORY", raising=False)
    monkeypatch.setattr(demo, "why_not", lambda: "no root")
    demo.demo()
    assert "no call was proven" in capfd.readouterr().out
    assert list((tmp_path / "rendered-example" / "rendered").iterdir())
