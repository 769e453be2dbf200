"""Seconds of an iteration of TRL's PPO, whose last release with it is 1.12, beside `mynah ppo`: random models of one shape as policy, value,
reward and reference model, 16 prompts of 32 tokens, 64 new ones, four epochs of one minibatch.

    python tools/peers/ppo.py --preset baby --precision bf16
"""

import argparse
import os
import statistics
import time

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
import transformers
import trl
import trl.experimental.ppo.ppo_trainer as internals
from datasets import Dataset
from gpt import SHAPES, result
from tokenizers import Tokenizer, models
from trl.experimental.ppo import PPOConfig, PPOTrainer

parser = argparse.ArgumentParser()
parser.add_argument("--preset", default="baby", choices=SHAPES)
parser.add_argument("--precision", default="f32", choices=["f32", "bf16"], help="bf16: whole models, TRL's best mode")
parser.add_argument("--iterations", type=int, default=6)
parser.add_argument("--prompts", type=int, default=16)
parser.add_argument("--prompt", type=int, default=32)
parser.add_argument("--new", type=int, default=64)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()

torch.set_num_threads(options.threads)
torch.manual_seed(0)
transformers.logging.set_verbosity_error()
layers, heads, width, positions, vocabulary = SHAPES[options.preset]
dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32


def model(kind, **more):
    dropout = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    ends = dict(bos_token_id=1, eos_token_id=1, pad_token_id=0)
    config = transformers.GPT2Config(
        n_layer=layers, n_head=heads, n_embd=width, n_positions=positions, vocab_size=vocabulary, **dropout, **ends, **more
    )
    return kind(config).to(dtype)


names = {"<pad>": 0, "<end>": 1, **{f"t{i}": i for i in range(2, vocabulary)}}
tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel(names, unk_token="<pad>")),
    pad_token="<pad>",
    eos_token="<end>",
    padding_side="left",
)
policy, reference = (model(transformers.GPT2LMHeadModel) for _ in range(2))
reference.load_state_dict(policy.state_dict())
value, reward = (model(transformers.GPT2ForSequenceClassification, num_labels=1) for _ in range(2))
prompts = torch.randint(2, vocabulary, (options.prompts * (options.iterations + 1), options.prompt)).tolist()
data = Dataset.from_dict({"input_ids": prompts})

# An iteration begins with the policy's answers.
began, answers = [], internals.batch_generation


def timed(*arguments, **keywords):
    began.append(time.perf_counter())
    return answers(*arguments, **keywords)


internals.batch_generation = timed
config = PPOConfig(
    output_dir="trl-ppo",
    per_device_train_batch_size=options.prompts,
    gradient_accumulation_steps=1,
    num_mini_batches=1,
    num_ppo_epochs=4,
    local_rollout_forward_batch_size=options.prompts,
    response_length=options.new,
    total_episodes=len(prompts),
    num_sample_generations=0,
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    save_strategy="no",
    eval_strategy="no",
    report_to=[],
    disable_tqdm=True,
)
trainer = PPOTrainer(
    args=config,
    processing_class=tokenizer,
    model=policy,
    ref_model=reference,
    reward_model=reward,
    value_model=value,
    train_dataset=data,
    eval_dataset=data.select(range(options.prompts)),
)
trainer.train()
began.append(time.perf_counter())
# The first one allocates.
secs = [end - start for start, end in zip(began, began[1:])][1:]
result(peer="TRL PPO", **vars(options), iteration_secs=statistics.median(secs), secs=secs, trl=trl.__version__)
