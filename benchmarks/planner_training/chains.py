"""Made-up requests over one text: what is heard, read or given, and what becomes of it. Plans come first, words after."""

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from benchmarks.planner_training.wording import MadeFile, Words, upper_first
from cluster.tasks import Task

MOST_STEPS = 5
ROOTS = {"text": 40, "speech": 34, "page": 16, "bill": 10}
READ_BY = {"speech": Task.AUTOMATIC_SPEECH_RECOGNITION, "page": Task.IMAGE_TO_TEXT, "bill": Task.IMAGE_TO_TEXT}
_READERS = frozenset(READ_BY.values())
_ON_SOURCE = {
    **{Task.SUMMARIZATION: 26, Task.TRANSLATION: 22, Task.TOKEN_CLASSIFICATION: 12, Task.TEXT_CLASSIFICATION: 11},
    **{Task.ZERO_SHOT_CLASSIFICATION: 6, Task.QUESTION_ANSWERING: 9, Task.TEXT_TO_SPEECH: 8, Task.TEXT_GENERATION: 8},
}
# What people do with what a step gave, and how often.
FOLLOWERS: dict[Task, dict[Task, int]] = {
    **dict.fromkeys(_READERS, _ON_SOURCE),
    Task.SUMMARIZATION: {Task.TEXT_TO_SPEECH: 10, Task.TRANSLATION: 10, Task.TEXT_CLASSIFICATION: 2, Task.TOKEN_CLASSIFICATION: 2},
    Task.TRANSLATION: {Task.TEXT_TO_SPEECH: 10, Task.SUMMARIZATION: 7, Task.TOKEN_CLASSIFICATION: 2, Task.TEXT_CLASSIFICATION: 2},
    Task.QUESTION_ANSWERING: {Task.TEXT_TO_SPEECH: 4, Task.TRANSLATION: 1},
    Task.TEXT_GENERATION: {Task.TEXT_TO_SPEECH: 4, Task.TRANSLATION: 4},
    Task.TOKEN_CLASSIFICATION: {Task.TEXT_TO_SPEECH: 1},
}
_ASKED_ON_SOURCE = frozenset({Task.QUESTION_ANSWERING})
SOURCE = -1  # the parent of a step that works on the file itself


@dataclass(slots=True)
class Node:
    """A step before it has words. `is_said`: the request asks for it; otherwise it is only needed."""

    task: Task
    parent: int
    is_said: bool = True
    slots: dict[str, str] = field(default_factory=dict)
    options: list[Any] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"{self.task}.language" if self.task is Task.SUMMARIZATION and self.options else self.task.value


@dataclass(slots=True)
class Draft:
    """A request with its plan, in its own numbers."""

    text: str
    files: list[MadeFile] = field(default_factory=list)
    steps: list[list[Any]] = field(default_factory=list)


def chain(words: Words, tasks: Collection[Task], *, is_alone: bool = True) -> Draft | None:
    """None when `tasks` or the words of the language do not carry what was drawn."""
    kind = words.chance.choices(list(ROOTS), list(ROOTS.values()))[0]
    file = words.file(kind)
    nodes = _nodes(words, file, tasks)
    if not nodes:
        return None
    text = Telling(words, file, nodes, is_alone).text()
    if text is None:
        return None
    return Draft(words.finished(text), [file], [_step(node) for node in nodes])


def _nodes(words: Words, file: MadeFile, tasks: Collection[Task]) -> list[Node]:
    chance, kind = words.chance, file.kind
    nodes = [Node(READ_BY[kind], SOURCE, is_said=chance.random() < 0.45)] if kind in READ_BY else []
    if any(node.task not in tasks for node in nodes):
        return []
    wanted = chance.choices([1, 2, 3, 4], [22, 32, 26, 20])[0] - (1 if nodes and nodes[0].is_said else 0)
    for _ in range(max(0, min(wanted, MOST_STEPS - len(nodes)))):
        if node := _next(words, file, nodes, tasks):
            nodes.append(node)
    return nodes if any(node.is_said for node in nodes) else []


def _next(words: Words, file: MadeFile, nodes: list[Node], tasks: Collection[Task]) -> Node | None:
    kind = file.kind
    first = 0 if kind in READ_BY else SOURCE
    parents = [n for n in range(first, len(nodes)) if n == SOURCE or nodes[n].task in FOLLOWERS]
    parent = words.chance.choices(parents, [3 if n == len(nodes) - 1 else 1 for n in parents])[0]
    follow = _ON_SOURCE if parent == SOURCE else FOLLOWERS[nodes[parent].task]
    taken = {(node.task, node.parent) for node in nodes}
    open_ = {task: weight for task, weight in follow.items() if task in tasks and (task, parent) not in taken}
    if kind == "bill":
        open_ = {task: weight for task, weight in open_.items() if task not in {Task.TEXT_CLASSIFICATION, Task.ZERO_SHOT_CLASSIFICATION}}
    if any(node.task is Task.TEXT_TO_SPEECH for node in nodes) or (kind == "speech" and parent == 0):  # nobody has a recording read aloud
        open_.pop(Task.TEXT_TO_SPEECH, None)
    if not open_:
        return None
    task = words.chance.choices(list(open_), list(open_.values()))[0]
    before = file.language if parent == SOURCE else next(iter(nodes[parent].options), None)
    return _filled(words, kind, Node(task, parent), before)


def _filled(words: Words, kind: str, node: Node, before: str | None) -> Node | None:
    """With its language, labels, question or prompt; `before` is the language of what it works on, where that is known."""
    match node.task:
        case Task.SUMMARIZATION if words.chance.random() > 0.2:
            pass
        case Task.TRANSLATION | Task.SUMMARIZATION:
            name, code = words.language_pair()
            if node.task is Task.SUMMARIZATION:
                code = before if before and node.parent != SOURCE and words.chance.random() < 0.6 else code
                name = words.spoken(code) or ""
            elif code == before:
                return None
            node.slots["lang"], node.options = name, [code]
            return node if name else None
        case Task.ZERO_SHOT_CLASSIFICATION:
            labels = words.pick(words.block["labels"])
            node.slots["labels"], node.options = words.listed(labels), [list(labels)]
        case Task.QUESTION_ANSWERING:
            question = words.pick(words.block["questions"][kind])
            node.slots["q"], node.options = question, [question]
        case Task.TEXT_GENERATION:
            product = words.pick(words.block["products"])
            node.slots["product"], node.options = product, [words.block["prompt"].replace("{product}", product)]
    return node


def _step(node: Node) -> list[Any]:
    wanted = ["text"] if node.task is Task.IMAGE_TO_TEXT else []
    return [node.task.value, "f1" if node.parent == SOURCE else f"s{node.parent + 1}", *node.options, *wanted]


class Telling:
    """Finds words for the nodes over one file."""

    def __init__(self, words: Words, file: MadeFile, nodes: list[Node], is_alone: bool) -> None:
        self._words, self._file, self._nodes, self._is_alone = words, file, nodes, is_alone
        self._said = [node for node in nodes if node.is_said]
        self._named = ""

    def text(self) -> str | None:
        chance = self._words.chance
        styles = [self._listing, self._nested, self._after, self._numbered] if self._words.language == "en" else [self._nested]
        chance.shuffle(styles)
        if chance.random() < 0.5:
            for style in styles:
                if told := style():
                    return told
        return self._plain()

    def _plain(self) -> str | None:
        """Imperatives, joined into sentences; questions stand by themselves."""
        sentences: list[str] = []
        clauses: list[str] = []
        for node in self._said:
            told = self._clause(node)
            if told is None:
                return None
            if node.task is Task.QUESTION_ANSWERING:
                sentences += [*self._sentence(clauses, is_first=not sentences), told]
                clauses = []
                continue
            if len(clauses) == 3 or (clauses and self._words.chance.random() < 0.15):
                sentences += self._sentence(clauses, is_first=not sentences)
                clauses = []
            clauses.append(told)
        sentences += self._sentence(clauses, is_first=not sentences)
        if not self._named and self._said[0].task is Task.QUESTION_ANSWERING and not self._is_alone:
            return None
        if self._is_alone and self._words.chance.random() < 0.06:
            sentences.insert(0, self._words.pick(self._words.block["leads"]))
        return ("" if self._words.language == "zh" else " ").join(sentences)

    def _sentence(self, clauses: list[str], *, is_first: bool) -> list[str]:
        if not clauses:
            return []
        block = self._words.block
        between = self._words.pick(block["between"])
        joined = clauses[0] if len(clauses) == 1 else between.join(clauses[:-1]) + self._words.pick(block["joins"]) + clauses[-1]
        opener = self._words.pick(block["openers"]) if is_first else block["openers"][0]
        text = opener.replace("{r}", joined)
        return [upper_first(text) if len(opener) > 3 or self._words.chance.random() < 0.5 else text]

    def _clause(self, node: Node) -> str | None:
        if node.task is Task.QUESTION_ANSWERING:
            asks = ["{q}"] if node is self._said[0] else self._words.block["asks"]
            return str(self._words.pick(asks)).replace("{q}", node.slots["q"])
        x = self._source(node)
        return None if x is None else self._put(node, "do", x)

    def _put(self, node: Node, form: str, x: str) -> str:
        forms = self._words.block["ops"][node.key][form]
        return self._words.put(self._words.say(self._words.pick(forms)), x, **node.slots)

    def _source(self, node: Node) -> str | None:
        """The phrase for what a node works on, as the words before it left it."""
        if node.parent == SOURCE or not self._nodes[node.parent].is_said:
            return self._file_phrase()
        parent = self._nodes[node.parent]
        before = self._said[self._said.index(node) - 1]
        if before is parent and self._words.language == "en" and self._words.chance.random() < 0.3:
            return "it"
        got = self._words.block["ops"][parent.key]["got"]
        alike = [other for other in self._said if other is not parent and other.task is parent.task]
        if alike:
            got = [phrase for phrase in got if "{lang}" in phrase]
        return self._words.put(self._words.pick(got), "", **parent.slots) if got else None

    def _file_phrase(self) -> str:
        """The same file is called by its name, or by the same noun."""
        words, file = self._words, self._file
        if self._named:
            again = words.named(file, first=False)
            return file.name if file.name in self._named else again if words.language == "en" and file.name not in again else self._named
        if not self._is_alone:
            self._named = file.name if words.chance.random() < 0.6 else f"the {file.noun}"
        elif words.language == "en" and words.chance.random() < 0.1:
            self._named = "this"
        else:
            self._named = words.named(file)
        return self._named

    def _nested(self) -> str | None:
        """The last step on what the ones before give, in one phrase: "a summary of the transcript of this call"."""
        ops = self._words.block["ops"]
        line = self._said
        if len(line) < 2 or any(self._nodes.index(b) and self._nodes[b.parent] is not a for a, b in pairwise(line)):
            return None
        is_spoken = line[-1].task is Task.TEXT_TO_SPEECH
        inner = line[:-1] if is_spoken else line
        if any(not ops[node.key].get("np") for node in inner):
            return None
        phrase = self._file_phrase()
        for node in inner:
            phrase = self._put(node, "np", phrase)
        return upper_first(self._words.put(self._words.pick(self._words.block["hear" if is_spoken else "want"]), phrase))

    def _after(self) -> str | None:
        """The later step is named first."""
        if len(self._said) != 2 or self._nodes[self._said[1].parent] is not self._said[0]:
            return None
        first, second = self._said
        if not self._words.block["ops"][first.key].get("ing") or not self._words.block["ops"][second.key].get("do"):
            return None
        then = self._put(second, "do", self._file_phrase())
        return upper_first(f"{then} after {self._put(first, 'ing', 'it')}.")

    def _listing(self) -> str | None:
        """Things wanted from the file in one list, then what is to happen with them."""
        ops = self._words.block["ops"]
        roots = [n for n in self._said if n.parent == SOURCE or not self._nodes[n.parent].is_said or self._nodes[n.parent].task in _READERS]
        roots = [node for node in roots if ops[node.key].get("bare")]
        rest = [node for node in self._said if node not in roots]
        if len(roots) < 2 or any(node.parent == SOURCE or self._nodes[node.parent] not in roots for node in rest):
            return None
        reader = roots[0] if roots[0].task in _READERS and len(roots) > 2 and self._words.chance.random() < 0.6 else None
        sentences = [upper_first(self._put(reader, "do", self._file_phrase())) + "."] if reader else []
        wanted = self._words.listed([self._put(node, "bare", "") for node in roots if node is not reader], self._words.block["and"])
        gimme = self._words.pick([form for form in self._words.block["gimme"] if (self._is_alone and not reader) or "{f}" in form])
        source = self._put(reader, "got", "") if reader else self._file_phrase()
        sentences.append(upper_first(gimme.replace("{list}", wanted).replace("{f}", source)))
        for node in rest:
            told = self._clause(node)
            if told is None or " it" in f" {told}":
                return None
            sentences.append(upper_first(told).rstrip(".?") + ("?" if told.endswith("?") else "."))
        return " ".join(sentences)

    def _numbered(self) -> str | None:
        if len(self._said) < 2 or not self._is_alone:
            return None
        header = self._words.pick(self._words.block["headers"]).replace("{f}", self._file_phrase())
        clauses = [node.slots["q"] if node.task is Task.QUESTION_ANSWERING else self._clause(node) for node in self._said]
        if None in clauses:
            return None
        mark = self._words.pick(["{n}. ", "{n}) ", "- "])
        lines = [mark.format(n=n) + str(clause) for n, clause in enumerate(clauses, 1)]
        return upper_first(header) + "\n" + "\n".join(lines)
