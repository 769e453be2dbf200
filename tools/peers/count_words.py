"""Logistic regression on word counts, beside `mynah finetune --task classification`:

    python tools/peers/count_words.py imdb-train.jsonl imdb-test.jsonl --words 100
"""

import argparse
import json

import sklearn
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

parser = argparse.ArgumentParser()
parser.add_argument("train")
parser.add_argument("val")
parser.add_argument("--words", type=int, help="cut texts after so many words")
options = parser.parse_args()


def read(path):
    rows = [json.loads(line) for line in open(path, encoding="utf-8")]
    return [" ".join(row["text"].split()[: options.words]) for row in rows], [row["label"] for row in rows]


model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=4.0, max_iter=1000))
model.fit(*read(options.train))
print(json.dumps({**vars(options), "accuracy": model.score(*read(options.val)), "sklearn": sklearn.__version__}))
