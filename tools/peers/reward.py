"""TRL's reward model on the pairs that `mynah reward --rankings train.jsonl --val val.jsonl` learns from:

    python tools/peers/reward.py MODEL train.jsonl val.jsonl --lr 2e-5 --batch 16 --seed 0
"""

import argparse
import json

import torch
import transformers
import trl
from datasets import Dataset

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("train")
parser.add_argument("val")
parser.add_argument("--lr", type=float, default=2e-5)
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--warmup", type=int, default=10)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()

torch.set_num_threads(options.threads)


def pairs(path):
    """Rows of prompt, chosen and rejected as conversations."""

    def turns(row, answer):
        return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[answer]}]

    rows = [json.loads(line) for line in open(path, encoding="utf-8")]
    return Dataset.from_list([{answer: turns(row, answer) for answer in ("chosen", "rejected")} for row in rows])


transformers.set_seed(options.seed)
model = transformers.AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=1, dtype=torch.float32)
tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
model.config.pad_token_id = tokenizer.pad_token_id
config = trl.RewardConfig(
    output_dir="trl-reward",
    per_device_train_batch_size=options.batch,
    per_device_eval_batch_size=options.batch,
    num_train_epochs=1,
    learning_rate=options.lr,
    lr_scheduler_type="cosine",
    warmup_steps=options.warmup,
    adam_beta2=0.95,
    weight_decay=0.0,
    seed=options.seed,
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    save_strategy="no",
    report_to=[],
)
trainer = trl.RewardTrainer(
    model=model, args=config, train_dataset=pairs(options.train), eval_dataset=pairs(options.val), processing_class=tokenizer
)
trainer.train()
figures = trainer.evaluate()
print(json.dumps({**vars(options), **figures, "trl": trl.__version__, "transformers": transformers.__version__}))
