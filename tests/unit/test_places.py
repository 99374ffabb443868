from sipdeploy.diagnostics import Span
from sipdeploy.inventory.document import Document, parse

TEXT = "a: {b: secret, c: 1}\nd: |\n  secret\n  secret\ne: x\n"
DOCUMENT, _ = parse(TEXT, "a.yaml")


def test_what_is_not_there_is_at_what_holds_it():
    assert str(DOCUMENT.key_span(("a", "zz", "y"))) == "a.yaml:1:1"
    assert str(DOCUMENT.value_span(("zz",))) == "a.yaml:1:1"


def test_a_value_over_several_lines_is_at_its_key():
    assert DOCUMENT.value_span(("d",)) == Span(path="a.yaml", line=2, column=1, end_column=2)


def shown(document, line, is_secret):
    return document.source(is_secret).excerpt(Span(path="a.yaml", line=line, column=1))[0]


def test_secret_values_are_hidden_on_all_their_lines():
    lines = [shown(DOCUMENT, n, lambda path: path in {("a", "b"), ("d",)}) for n in range(1, 6)]
    assert lines == ["a: {b: [hidden], c: 1}", "d: [hidden]", "[hidden]", "[hidden]", "e: x"]


def test_where_nothing_is_known_what_looks_like_a_password_is_hidden():
    text = "x: [\nPassword: hunter2\n  'pass_word' : hunter2\npwd:\n  hunter2\nname: Bob\n"
    document = Document(path="a.yaml", text=text)
    lines = [shown(document, n, lambda _: False) for n in range(1, 7)]
    assert "hunter2" not in "\n".join(lines)
    assert lines[5] == "name: Bob"
