"""The same step of joint training in PyTorch, eager, as one would write it.

The retriever is BERT with the mean over its tokens, normalised; the re-ranker BERT with a linear
head over the first token. The loss is the listwise cross-entropy of the re-ranker and
KL(student || teacher) with a gradient into both (RocketQAv2, eq. 4 to 6).
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from transformers import BertModel
from worker import seconds, serve


class Theirs:
    def open(self, folder: str, data: str, backend: str) -> dict[str, Any]:
        """``data`` is what ours_training.py saved; ``backend`` is fp32 or bf16 (autocast)."""
        self._bf16 = backend == "bf16"
        arrays = dict(np.load(data))
        self._scale = float(arrays["scale"])
        self._clip = float(arrays["clip"])
        self._retriever = BertModel.from_pretrained(folder, add_pooling_layer=False).train()
        self._reranker = BertModel.from_pretrained(folder, add_pooling_layer=False).train()
        self._dropout = torch.nn.Dropout(0.1)
        self._head = torch.nn.Linear(*arrays["head.weight"].shape)
        with torch.no_grad():
            self._head.weight.copy_(torch.from_numpy(arrays["head.weight"].T))
            self._head.bias.copy_(torch.from_numpy(arrays["head.bias"]))
        self._modules = [self._retriever, self._reranker, self._dropout, self._head]
        decayed = [
            (parameter, not any(word in name for word in ("LayerNorm", "bias")))
            for module in self._modules
            for name, parameter in module.named_parameters()
        ]
        groups = [
            {"params": [p for p, decays in decayed if decays]},
            {"params": [p for p, decays in decayed if not decays], "weight_decay": 0.0},
        ]
        self._optimiser = torch.optim.AdamW(
            groups,
            lr=float(arrays["learning_rate"]),
            weight_decay=float(arrays["weight_decay"]),
        )
        self._batches: list[dict[str, Any]] = []
        for key, values in arrays.items():
            number, slash, name = key.partition("/")
            if slash:
                while len(self._batches) <= int(number):
                    self._batches.append({})
                self._batches[int(number)][name] = torch.from_numpy(values)
        return {"threads": torch.get_num_threads()}

    def loss(self) -> dict[str, Any]:
        """Of the first batch, without dropout; no weight changes."""
        for module in self._modules:
            module.eval()
        with torch.no_grad():
            total = float(self._loss(self._batches[0]))
        for module in self._modules:
            module.train()
        return {"loss": total}

    def train(self) -> dict[str, Any]:
        """A step for every batch."""

        def step(batch: dict[str, Any]) -> None:
            self._optimiser.zero_grad()
            self._loss(batch).backward()
            for modules in ([self._retriever], [self._reranker, self._head]):
                parameters = [p for module in modules for p in module.parameters()]
                torch.nn.utils.clip_grad_norm_(parameters, self._clip)
            self._optimiser.step()

        taken = seconds(lambda: [step(batch) for batch in self._batches])
        return {"seconds": taken, "count": sum(len(b["real"]) for b in self._batches)}

    def _loss(self, batch: dict[str, Any]) -> Any:
        queries = self._outputs(batch, "queries", self._vectors)
        passages = self._outputs(batch, "passages", self._vectors)
        logits = self._outputs(batch, "pairs", self._logits)
        real, counted = batch["real"], batch["counted"]
        student = (self._scale * queries @ passages.T).gather(1, batch["candidates"])
        teacher = torch.zeros(real.shape)
        teacher = teacher.masked_scatter(real, logits)
        log_s, log_t = (
            torch.log_softmax(each.masked_fill(~counted, -1e30), dim=-1)
            for each in (student, teacher)
        )
        distillation = (log_s.exp() * (log_s - log_t)).sum(-1)
        return (distillation - log_t[:, 0]).mean()

    def _outputs(self, batch: dict[str, Any], part: str, call: Any) -> Any:
        outputs, rows = [], []
        place = 0
        while f"{part}/{place}/rows" in batch:
            chunk = {name: batch[f"{part}/{place}/{name}"] for name in _INPUTS}
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bf16):
                outputs.append(call(chunk))
            rows.append(batch[f"{part}/{place}/rows"])
            place += 1
        return torch.cat(outputs)[torch.argsort(torch.cat(rows))]

    def _vectors(self, chunk: dict[str, Any]) -> Any:
        states = self._retriever(**chunk).last_hidden_state.float()
        weights = chunk["attention_mask"].unsqueeze(-1).float()
        mean = (states * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(mean, dim=-1)

    def _logits(self, chunk: dict[str, Any]) -> Any:
        first = self._reranker(**chunk).last_hidden_state[:, 0]
        return self._head(self._dropout(first)).float()[:, 0]


_INPUTS = ("input_ids", "attention_mask", "token_type_ids")

if __name__ == "__main__":
    theirs = Theirs()
    serve({"open": theirs.open, "loss": theirs.loss, "train": theirs.train})
