"""The operators from Python: with storages and servings of others, and with ours."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from support.command import KEY, instructions, lines
from support.endpoint import Endpoint
from support.replies import code_for, completion

import codesynth
from codesynth import (
    APILLMServing,
    CodeCodeToInstructionGenerator,
    CodeEnhancementInstructionGenerator,
    CodeInstructionGenerator,
    CodeInstructionToCodeGenerator,
    Journal,
    JournaledServing,
    JSONLStorage,
    PracticeEndpoint,
    PromptedGenerator,
    models,
)
from codesynth.errors import ConfigError, RunError


class ForeignStorage:
    """Rows in memory, in DataFlow's way."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = list(rows)
        self.written: list[dict[str, Any]] = []

    def read(self, output_type: str) -> list[dict[str, Any]]:
        assert output_type == "dict"
        return self.rows

    def write(self, rows: list[dict[str, Any]]) -> str:
        self.written = rows
        return "cache.jsonl"


class ForeignServing:
    """DataFlow's own arguments, all of them; None for a prompt that has "bad" in it."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.options: list[dict[str, Any]] = []

    def generate_from_input(self, user_inputs: list[str], **options: Any) -> list[str | None]:
        self.prompts += user_inputs
        self.options.append(options)
        answer = "<think>Hm.</think>\n<answer>```python\nx\n```\n</answer>"
        return [None if "bad" in text else answer for text in user_inputs]


class Spoken:
    """A template that is an object."""

    def build_prompt(self, **parts: Any) -> str:
        [(name, value)] = parts.items()
        return f"{name}: {json.dumps(value)}"


def api(endpoint: Endpoint, **options: Any) -> APILLMServing:
    return APILLMServing(models.Endpoint(endpoint.base_url, KEY), **options)


def offline() -> APILLMServing:
    return APILLMServing("http://offline/v1", transport=PracticeEndpoint())


# With others' storages and servings.


def test_code_goes_to_a_foreign_storage_from_a_foreign_serving() -> None:
    rows = ({"instruction": "a", "n": 1}, {"instruction": "bad"}, {"instruction": float("nan")})
    storage, serving = ForeignStorage(*rows, {}), ForeignServing()
    operator = CodeInstructionToCodeGenerator(serving, "{instruction}")
    assert operator.run(storage) == ["generated_code"]
    assert storage.written == [
        {"instruction": "a", "n": 1, "generated_code": "x"},
        {"instruction": "bad", "generated_code": None},
        {**rows[2], "generated_code": None},
        {"generated_code": None},
    ]
    assert serving.prompts == ["a", "bad"]
    assert "generated_code" not in storage.rows[0]


def test_instructions_go_to_a_foreign_storage_from_a_foreign_serving() -> None:
    rows = [{"prompt": f"p{i}"} for i in range(5)]
    storage = ForeignStorage(*rows, {"prompt": float("nan")}, {"other": "x"})
    serving = ForeignServing()
    operator = CodeInstructionGenerator(serving, "{examples}", num_few_shot=2, num_generate=4)
    assert operator.run(storage) == ["generated_instruction"]
    assert len(storage.written) == len(serving.prompts) == 4
    assert {key for row in storage.written for key in row} == {"generated_instruction"}
    assert all("nan" not in prompt for prompt in serving.prompts)


@pytest.mark.parametrize("key", ["examples", "task"])
def test_columns_are_the_callers_and_never_overwritten(key: str) -> None:
    storage, serving = ForeignStorage({"q": "a"}, {"q": "b"}), ForeignServing()
    generator = CodeInstructionGenerator(serving, num_few_shot=1, num_generate=1)
    assert generator.run(storage, input_key="q", output_key=key) == [key]
    assert storage.written[0][key]
    for make in (CodeInstructionToCodeGenerator, CodeCodeToInstructionGenerator):
        operator = make(serving)
        assert operator.run(storage, input_key="q", output_key=key) == [key]
        assert [list(row) for row in storage.written] == [["q", key]] * 2
        with pytest.raises(ConfigError, match='the rows already have "q"'):
            operator.run(storage, input_key="q", output_key="q")


def test_a_serving_of_ours_plugs_in_there(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: completion(None if request.prompt == "b" else request.prompt)
    serving = api(endpoint)
    answers = serving.generate_from_input(["a", "b", "c"], system_prompt="Be brief.")
    assert answers == ["a", None, "c"]
    assert serving.generate_from_input([]) == []
    serving.generate_from_input(user_inputs=["d"], json_schema={"type": "object"})
    assert endpoint.received[-1].json["response_format"]["type"] == "json_schema"
    assert endpoint.received[0].json["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {request.json["model"] for request in endpoint.received} == {"test-model"}


# The other three of DataFlow's.


CHAT = [
    {"role": "system", "content": "s"},
    {"role": "HUMAN", "content": "Sort a list."},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "Thanks."},
]


def test_an_instruction_is_asked_for_code() -> None:
    storage, serving = ForeignStorage({"code": "x = 1"}), ForeignServing()
    assert CodeCodeToInstructionGenerator(serving).run(storage) == ["generated_instruction"]
    assert storage.written == [{"code": "x = 1", "generated_instruction": "```python\nx\n```"}]
    assert "Code:\nx = 1" in serving.prompts[0]


def test_of_a_chat_the_humans_first_message_is_the_instruction() -> None:
    rows = [{"messages": CHAT}, {"messages": "Add."}, {"messages": [{"role": "system"}]}]
    rows += [{"messages": [{"from": "human", "value": "Shared."}]}, {}]
    storage, serving = ForeignStorage(*rows), ForeignServing()
    operator = CodeEnhancementInstructionGenerator(serving, "{instruction}")
    assert operator.run(storage) == ["generated_instruction"]
    found = [row["generated_instruction"] is not None for row in storage.written]
    assert found == [True, True, False, True, False]
    assert serving.prompts == ["Sort a list.", "Add.", "Shared."]


def test_a_prompted_generator_tells_the_serving_prompts_and_schema(endpoint: Endpoint) -> None:
    storage, serving = ForeignStorage({"raw_content": "b"}), ForeignServing()
    assert PromptedGenerator(serving, user_prompt="a: ").run(storage) == "generated_content"
    schema = {"type": "object"}
    PromptedGenerator(serving, "s", json_schema=schema).run(storage)
    assert serving.prompts == ["a: b", "b"]
    assert serving.options == [
        {"system_prompt": "You are a helpful agent."},
        {"system_prompt": "s", "json_schema": schema},
    ]
    PromptedGenerator(api(endpoint), "s", json_schema=schema).run(storage)
    asked = endpoint.received[0].json
    assert [turn["content"] for turn in asked["messages"]] == ["s", "b"]
    assert asked["response_format"]["json_schema"]["schema"] == schema


@pytest.mark.parametrize("serving", [offline, ForeignServing])
def test_the_three_stream_through_our_files(serving: Any, tmp_path: Path) -> None:
    task = "Take the words of the text, reverse their order, and return the first one."
    rows = lines({"code": "x = 1", "messages": CHAT, "raw_content": task}, {"n": 1})
    (tmp_path / "in.jsonl").write_bytes(rows)
    for number, operator in enumerate(
        (
            CodeCodeToInstructionGenerator(serving()),
            CodeEnhancementInstructionGenerator(serving()),
            PromptedGenerator(serving(), user_prompt="Write code: "),
        )
    ):
        out = tmp_path / f"{number}.jsonl"
        name = operator.run(JSONLStorage(tmp_path / "in.jsonl", out))
        key = name if isinstance(name, str) else name[0]
        [written] = [json.loads(line) for line in out.read_bytes().splitlines()]
        assert written[key].strip() == written[key] != ""


# Templates.


def test_an_object_with_build_prompt_is_a_template() -> None:
    serving = ForeignServing()
    storage = ForeignStorage({"instruction": "a", "prompt": "p", "code": "c"})
    CodeInstructionToCodeGenerator(serving, Spoken()).run(storage)
    CodeCodeToInstructionGenerator(serving, Spoken()).run(storage)
    CodeInstructionGenerator(serving, Spoken(), num_few_shot=1, num_generate=1).run(storage)
    examples = 'few_shot_examples: [{"instruction": "p"}]'
    assert serving.prompts == ['instruction: "a"', 'code: "c"', examples]


@pytest.mark.parametrize("text", ["{task}", "", "\n{examples} {", "{examples} {task}"])
def test_a_wrong_template_is_told_when_the_operator_is_made(text: str) -> None:
    with pytest.raises(ConfigError, match=r"<prompt_template>:\d: (missing|unknown|{)"):
        CodeInstructionGenerator(ForeignServing(), text)


# With ours.


def test_ours_stream_through_files_also_inside_a_running_event_loop(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"n":1.0,"instruction":"a"}\n[]\n' + instructions("b"))
    storage = JSONLStorage(str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    operator = CodeInstructionToCodeGenerator(api(endpoint), "{instruction}")

    async def notebook() -> Any:
        return operator.run(storage)

    assert asyncio.run(notebook()) == ["generated_code"]
    rows = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert rows[0].startswith(b'{"n":1.0,"instruction":"a","generated_code":')
    assert [json.loads(row)["generated_code"] for row in rows] == [code_for("a"), code_for("b")]
    failed = json.loads((tmp_path / "out.failures.jsonl").read_bytes())
    assert (failed["line"], failed["error"]["kind"]) == (2, "not_an_object")


def test_both_steps_follow_one_another_without_a_network(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("pool.jsonl", "new.jsonl", "code.jsonl")]
    (tmp_path / "pool.jsonl").write_bytes(lines({"prompt": "a"}, {"x": 1}, {"prompt": "b"}))
    made = CodeInstructionGenerator(offline(), num_few_shot=2, num_generate=5)
    made.run(JSONLStorage(paths[0], paths[1]))
    coder = CodeInstructionToCodeGenerator(offline())
    coder.run(JSONLStorage(paths[1], paths[2]))  # it reads generated_instruction by itself
    rows = [json.loads(line) for line in (tmp_path / "code.jsonl").read_bytes().splitlines()]
    assert [list(row) for row in rows] == [["generated_instruction", "generated_code"]] * 5
    failed = json.loads((tmp_path / "new.failures.jsonl").read_bytes())
    assert (failed["line"], failed["error"]["kind"]) == (2, "missing_key")


def test_a_pool_smaller_than_a_prompt_is_told_with_both_numbers() -> None:
    storage = ForeignStorage({"prompt": "a"}, {"prompt": "b"})
    with pytest.raises(ConfigError, match="the pool has 2 usable rows, but a prompt takes 3"):
        CodeInstructionGenerator(ForeignServing()).run(storage)


def test_a_run_in_which_every_row_failed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines({"text": "a"}, {"text": "b"}))
    storage = JSONLStorage(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    with pytest.raises(
        RunError, match=r"all 2 rows failed; first failure: .*in.jsonl:1: missing_key"
    ):
        CodeInstructionToCodeGenerator(offline()).run(storage)


def test_a_journal_in_front_buys_nothing_twice(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(instructions("a", "b", "a"))
    outputs = []
    for name in ("first.jsonl", "second.jsonl"):
        with Journal(tmp_path / "answers.journal") as journal:
            operator = CodeInstructionToCodeGenerator(JournaledServing(journal, api(endpoint)))
            operator.run(JSONLStorage(tmp_path / "in.jsonl", tmp_path / name))
        outputs.append((tmp_path / name).read_bytes())
    assert outputs[0] == outputs[1]
    assert len(endpoint.received) == 3


def test_the_public_names_are_shown() -> None:
    assert {"APILLMServing", "JournaledServing", "JSONLStorage"} <= set(dir(codesynth))
    assert all(getattr(codesynth, name).__doc__ for name in codesynth.__all__ if name[0] != "_")
