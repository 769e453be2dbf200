"""Seconds of an iteration of TRL's GRPO beside `mynah bench grpo`: a random model of one shape as policy and reference, 16 prompts of 32 tokens,
8 answers of 64 new ones to each, learned from once; clipping at 0.2, the KL to the reference at 0.04, a reward by length.

    python tools/peers/grpo.py --preset baby --precision f32
"""

import argparse
import statistics
import tempfile
import time

import torch
import transformers
import trl
from datasets import Dataset
from gpt import SHAPES, result
from tokenizers import Tokenizer, models, pre_tokenizers
from trl import GRPOConfig, GRPOTrainer

parser = argparse.ArgumentParser()
parser.add_argument("--preset", default="baby", choices=SHAPES)
parser.add_argument("--precision", default="f32", choices=["f32", "bf16", "autocast"], help="bf16: whole models")
parser.add_argument("--iterations", type=int, default=6)
parser.add_argument("--prompts", type=int, default=16)
parser.add_argument("--prompt", type=int, default=32)
parser.add_argument("--group", type=int, default=8)
parser.add_argument("--new", type=int, default=64)
parser.add_argument("--micro-batch", type=int, help="answers in a pass of learning; all by default")
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()

torch.set_num_threads(options.threads)
transformers.logging.set_verbosity_error()
layers, heads, width, positions, vocabulary = SHAPES[options.preset]
answers = options.prompts * options.group
micro_batch = options.micro_batch or answers
assert answers % micro_batch == 0, f"{answers} answers in passes of {micro_batch}"

names = {"<pad>": 0, "<end>": 1, **{f"t{i}": i for i in range(2, vocabulary)}}
words = Tokenizer(models.WordLevel(names, unk_token="<pad>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=words, pad_token="<pad>", eos_token="<end>", padding_side="left"
)
torch.manual_seed(0)
config = transformers.GPT2Config(
    n_layer=layers,
    n_head=heads,
    n_embd=width,
    n_positions=positions,
    vocab_size=vocabulary,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
    bos_token_id=1,
    eos_token_id=1,
    pad_token_id=0,
)
prompts = torch.randint(2, vocabulary, (options.prompts * (options.iterations + 1), options.prompt)).tolist()
data = Dataset.from_dict({"prompt": [" ".join(f"t{i}" for i in prompt) for prompt in prompts]})


def length(completions, **_):
    """The shorter the better, in characters: what `mynah bench grpo` rewards."""
    return [1 / (1 + len(text) / 20) for text in completions]


class Clock(transformers.TrainerCallback):
    """When each iteration began, and how long the policy answered meanwhile."""

    def __init__(self):
        self.began, self.answering = [], []

    def on_step_begin(self, *_, **__):
        self.began.append(time.perf_counter())

    def on_train_end(self, *_, **__):
        self.began.append(time.perf_counter())


clock = Clock()
with tempfile.TemporaryDirectory() as place:
    # The trainer loads the reference from where the policy came from.
    transformers.GPT2LMHeadModel(config).save_pretrained(place)
    trainer = GRPOTrainer(
        model=place,
        reward_funcs=length,
        processing_class=tokenizer,
        train_dataset=data,
        callbacks=[clock],
        args=GRPOConfig(
            output_dir=place,
            model_init_kwargs={"dtype": "bfloat16" if options.precision == "bf16" else "float32"},
            bf16=options.precision == "autocast",
            use_cpu=True,
            loss_type="grpo",
            beta=0.04,
            epsilon=0.2,
            num_iterations=1,
            num_generations=options.group,
            generation_batch_size=answers,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=answers // micro_batch,
            max_completion_length=options.new,
            temperature=1.0,
            learning_rate=1e-6,
            max_steps=options.iterations + 1,
            gradient_checkpointing=False,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
    )
    answer = trainer._generate

    def timed(*arguments, **keywords):
        began = time.perf_counter()
        answered = answer(*arguments, **keywords)
        clock.answering.append(time.perf_counter() - began)
        return answered

    trainer._generate = timed
    trainer.train()
assert len(clock.answering) == options.iterations + 1, "each iteration answers once"
# The first one allocates.
secs = [end - start for start, end in zip(clock.began, clock.began[1:])][1:]
result(
    peer="TRL GRPO",
    **vars(options),
    iteration_secs=statistics.median(secs),
    answering_secs=statistics.median(clock.answering[1:]),
    secs=secs,
    trl=trl.__version__,
    transformers=transformers.__version__,
)
