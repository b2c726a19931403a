"""The settings of the commands that ask a model.

The command line, the help and the README's tables are made of these classes; a new option goes
here, or into ``local_settings``, and is used in ``asking`` or ``commands``. After a
change run tests/update_help.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from codesynth import readers
from codesynth.errors import ConfigError
from codesynth.models import Price, SamplingParams
from codesynth.options import Settings, option


class FileSettings(Settings):
    """Where rows come from, and where they go."""

    usage = """
        Input and output:
        [INPUT]...         JSONL files, also .gz. Default: stdin.
        -o, --output PATH  File for the rows (PATH.partial until complete). Default: stdout.
        --failures PATH    File for rows that failed or were rejected, with the reason. Default
                           with -o a.jsonl: a.failures.jsonl.
        --overwrite        Replace the output file in any case.
    """
    inputs: list[str] = option()
    output: str | None = None
    failures: str | None = None
    overwrite: bool = False


class RowSettings(FileSettings):
    """Options of each command that turns rows into rows."""

    usage = """
        Input and output:
        --limit N     Process only the first N rows.
        --shard I/N   Process one of N parts of a job: rows I, I + N, I + 2N and so on, counted
                      from 0.
        --unordered   Write rows as they finish, not in input order.
        --max-time S  Stop cleanly after S seconds and exit 5. Run again to continue.
        -q, --quiet   Print only errors and warnings, and the summary if rows failed.
        --log-json PATH  Append one JSON line per second to this file: rows, failures, tokens, cost.
    """
    limit: int | None = option(least=1)
    shard: tuple[int, int] = option(
        (0, 1), read=readers.shard, form="I/N with I from 0 to N - 1, such as 0/8"
    )
    unordered: bool = False
    max_time: float | None = None
    quiet: bool = False
    log_json: str | None = None

    def is_in_shard(self, number: int) -> bool:
        """Tell whether request ``number`` of the whole job belongs to this shard."""
        return number % self.shard[1] == self.shard[0]


class PriceOptions(Settings):
    """What tokens cost."""

    usage = """
        Cost:
        --price IN,OUT  Price per million tokens, of prompts and of answers. Default: no cost is
                        shown.
    """
    price: Price | None = option(read=readers.price, form="IN,OUT, two numbers such as 0.15,0.6")


class AskSettings(PriceOptions, RowSettings):
    """Options of each command that asks a model."""

    usage = """
        Input and output:
        --reasoning-key KEY  Keep the model's reasoning in this column; null if there is none.
        --answer-key KEY     Keep the whole answer in this column.
        --messages-key KEY   Write the row as a chat (user, assistant) in this column.
        --meta               Add the column _codesynth: model, tokens, attempts and more.
        -v, --verbose        Print each retry, and each change of the limit of -j auto, with the
                             reason.
        What to ask:
        --samples N                 Answers per input row. Each becomes an output row.
        -t, --prompt-template NAME|PATH  Text file with {placeholders}, or the name of a built-in
                                    one. Default: the command's own.
        --system-prompt TEXT|@FILE  System message of each request.
        --temperature T             Sampling temperature. Default: not sent.
        --top-p P                   Nucleus sampling. Default: not sent.
        --max-tokens N              At most N tokens in an answer. Default: not sent.
        --extra-body JSON           JSON object to merge into the body of each request.
        --decontaminate FILE        Reject rows that overlap with this benchmark (JSONL or text).
        --ngram N                   With --decontaminate: how many consecutive words in common count
                                    as an overlap.
        --estimate N                Ask for N rows, spread over the input, print the tokens, time
                                    and money that all rows would take, and stop. The journal keeps
                                    the answers.
        --dry-run                   Send nothing and write no file: print the requests as OpenAI
                                    batch lines on standard output.
        Endpoint and model:
        --model NAME            Name of the model. Default: CODESYNTH_MODEL, else the only model the
                                endpoint lists.
        --base-url URL          URL of the endpoint, including /v1. Default: OPENAI_BASE_URL, else
                                OpenAI's. The key is read from OPENAI_API_KEY. Several endpoints
                                share the load.
        --header 'NAME: VALUE'  Header of every request, in addition to those in CODESYNTH_HEADERS
                                (a JSON object).
        --offline               Practise with a built-in endpoint: no model, no network, no key.
        Speed and retries:
        -j, --concurrency N|auto  At most N requests in flight. Default: auto, as many as the
                                  endpoint takes.
        --rpm N                   At most N requests per minute.
        --tpm N                   At most N tokens per minute.
        --timeout S               Seconds for one attempt, from sending to the last byte of the
                                  answer.
        --connect-timeout S       Seconds to connect to the endpoint.
        --max-retries N           Retries of a request after its first attempt.
        --max-outage S            Stop when no request has succeeded for S seconds.
        --ray N                   Run the job in N parts on a Ray cluster (RAY_ADDRESS, else this
                                  machine) and join them.
        Batch API:
        --batch         Use the Batch API: answers come within a day, often for half the price.
                        Needs a journal.
        --batch-size N  At most N requests in a batch.
        --no-wait       Send, collect what is done, and exit 5 if batches are still open. Run again
                        to collect.
        --cancel        Cancel the open batches of this journal and collect what they have done.
        Stop and resume:
        --journal PATH       File that keeps every answer, so that no later run asks for it again,
                             not even with --overwrite. Default with -o a.jsonl: a.journal.
        --no-journal         Keep no journal: a later run asks and pays again.
        --also-journal PATH  Use answers of this journal too; they are copied into the run's own.
        --max-cost C         Stop cleanly and exit 5 before the answers in the journal cost more
                             than C in total. It is exact only with --max-tokens.
    """
    reasoning_key: str | None = None
    answer_key: str | None = None
    messages_key: str | None = None
    meta: bool = False
    verbose: bool = False
    samples: int = option(1, least=1)
    prompt_template: str | None = option(complete=readers.template_names)
    system_prompt: str | None = option(read=readers.text_or_file)
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = option(least=1)
    extra_body: Mapping[str, Any] | None = option(read=readers.body)
    decontaminate: list[str] = option()
    ngram: int = option(13, least=3)
    estimate: int | None = option(least=1, excludes="--batch --shard")
    dry_run: bool = False
    model: str | None = option(env="CODESYNTH_MODEL")
    base_urls: list[str] = option(env="OPENAI_BASE_URL")
    headers: list[tuple[str, str]] = option(read=readers.header)
    offline: bool = False
    concurrency: int = option(0, read=readers.concurrency, form="a number from 1, or auto")
    rpm: float | None = option(least=0.01)
    tpm: float | None = option(least=1)
    timeout: float = option(600.0, least=0.001)
    connect_timeout: float = option(10.0, least=0.001)
    max_retries: int = 5
    max_outage: float = 300.0
    ray: int | None = option(
        least=1,
        needs="--output",
        excludes="--no-journal --batch --cancel --unordered --shard --estimate",
    )
    batch: bool = option(needs="--output --journal", excludes="--no-journal")
    batch_size: int = option(50_000, least=1)
    no_wait: bool = option(needs="--batch --cancel")
    cancel: bool = option(needs="--output --journal", excludes="--no-journal")
    journal: str | None = None
    no_journal: bool = option(excludes="--journal")
    also_journal: list[str] = option(needs="--output --journal", excludes="--no-journal")
    max_cost: float | None = option(needs="--price")

    @property
    def params(self) -> SamplingParams:
        """The parameters of each request, by OpenAI's names."""
        extra = dict(self.extra_body or {})
        return SamplingParams(self.temperature, self.top_p, self.max_tokens, extra)

    @property
    def most_tokens(self) -> int | None:
        """The most tokens that an answer may have; None where the requests do not say."""
        body = self.params.body("", [])
        return body.get("max_completion_tokens") or body.get("max_tokens")

    def check(self) -> None:
        """Check that the options fit together."""
        super().check()
        if self.batch and len(self.base_urls) > 1:
            raise ConfigError("--batch sends to one endpoint: give one --base-url")
        if self.batch and self.max_cost is not None and self.most_tokens is None:
            raise ConfigError("--batch and --max-cost need --max-tokens to know what may be spent")
        if self.ray is not None and "-" in self.inputs:
            raise ConfigError("--ray needs INPUT files that all nodes can read, not standard input")


class InstructionsSettings(AskSettings, command="gen-instructions"):
    """Ask for new instructions like the examples in a pool of code prompts.

    Examples:
        codesynth gen-instructions seeds.jsonl -n 100 --offline
        codesynth gen-instructions seeds.jsonl -n 1000 --seed 1 -o new.jsonl
        codesynth gen-instructions pool.jsonl.gz -k 5 --temperature 1 > new.jsonl
    """

    usage = """
        --input-key KEY       Column with the examples.
        --output-key KEY      Column to write.
        -n, --num-generate N  Instructions to ask for.
        -k, --num-few-shot K  Examples per prompt, chosen at random.
        --seed N              Seed for choosing the examples. Default: random; it is printed at the
                              end.
        --mix H:M             Examples in each prompt: H rows written by people (column --input-key)
                              and M generated rows (column --output-key), such as 6:2. Replaces -k.
        --novelty T           Reject an instruction whose ROUGE-L with the pool or an earlier row is
                              T (such as 0.7) or more, and one that differs only in names, case or
                              white space.
        --accepted N          Ask until the filters have accepted N instructions. Replaces -n.
    """
    input_key: str = "prompt"
    output_key: str = "generated_instruction"
    num_generate: int = 10
    num_few_shot: int = option(3, least=1)
    seed: int | None = option(least=-math.inf)
    mix: tuple[int, int] | None = option(read=readers.mix, form="H:M, two numbers such as 6:2")
    novelty: float | None = option(excludes="--unordered --ray")
    accepted: int | None = option(
        least=1, excludes="--unordered --ray --shard --batch --estimate --dry-run"
    )


class CodeSettings(AskSettings, command="gen-code"):
    """Ask for the code that each row's instruction describes.

    Examples:
        codesynth gen-code instructions.jsonl --offline
        codesynth gen-code instructions.jsonl -o sft.jsonl --max-tokens 2048
        codesynth gen-instructions seeds.jsonl | codesynth gen-code > sft.jsonl
    """

    usage = """
        --input-key KEY   Column to read. Default: instruction, else generated_instruction.
        --output-key KEY  Column to write.
        --language NAME   Language of the code. Default: Python if the instruction names it, else
                          the first that a code block of the answer names.
    """
    input_key: str | None = None
    output_key: str = "generated_code"
    language: str | None = option(complete=readers.language_names)


class TestsSettings(AskSettings, command="gen-tests"):
    """Ask for tests of the code that each row's instruction describes, before there is any code.

    Examples:
        codesynth gen-tests new.jsonl -o tested.jsonl --num-tests 10
        codesynth gen-instructions seeds.jsonl | codesynth gen-tests > tested.jsonl
    """

    __test__ = False  # its name makes pytest take it for tests

    usage = """
        --input-key KEY   Column to read. Default: instruction, else generated_instruction.
        --output-key KEY  Column to write.
        --num-tests K     Tests to ask for, per row.
    """
    input_key: str | None = None
    output_key: str = "generated_tests"
    num_tests: int = option(8, least=1)


class GenSettings(AskSettings, command="gen"):
    """Ask about each row with any prompt template. {column} is replaced by the row's value.

    Examples:
        codesynth gen sft.jsonl -t my_prompt.txt --output-key review
        codesynth gen new.jsonl -t judge_difficulty --json --require difficulty
    """

    usage = """
        --output-key KEY       Column for the answer.
        --json                 Read the answer as a JSON object; its fields become columns.
        --prefix TEXT          With --json: text in front of each new column's name.
        --require NAME[:TYPE]  With --json: rows without this field fail (bad_json). TYPE is string,
                               integer, number, boolean, list or object.
    """
    output_key: str = "generated"
    json: bool = False
    prefix: str = option("", needs="--json")
    require: list[tuple[str, str]] = option(read=readers.field, needs="--json")

    def check(self) -> None:
        """Check that the options fit together."""
        super().check()
        if self.prompt_template is None:
            raise ConfigError("gen needs -t: a template file, or the name of a built-in template")
