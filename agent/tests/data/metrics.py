"""Prints the figures in ../metrics.rs: `pip install numpy scikit-learn`, then `python metrics.py`."""

import numpy as np
from sklearn import metrics


def outputs(rows, columns):
    place = np.arange(rows * columns)
    share = ((place * 7919 + 13) * place % 10007).astype(np.float32) / np.float32(10007)
    return (share * np.float32(4) - np.float32(2)).reshape(rows, columns)


def labels(rows, classes):
    row = np.arange(rows)
    return (row * row * 31 + row // 3) % classes


def softmax(logits):
    e = np.exp(logits.astype(np.float64))
    return e / e.sum(1, keepdims=True)


z, y = outputs(120, 7), labels(120, 7)
print("accuracy", repr(metrics.accuracy_score(y, z.argmax(1))))
print("top5", repr(metrics.top_k_accuracy_score(y, z, k=5)))
print("f1", repr(metrics.f1_score(y, z.argmax(1), average="macro")))
print("auroc", repr(metrics.roc_auc_score(y, softmax(z), multi_class="ovr", average="macro")))

z, y = outputs(200, 2), labels(200, 2)
print("auroc of two", repr(metrics.roc_auc_score(y, z[:, 1] - z[:, 0])))

z, y = outputs(60, 4), labels(240, 5).reshape(60, 4) % 2
print("answers: f1", repr(metrics.f1_score(y, z > 0, average="macro")))
print("answers: auroc", repr(metrics.roc_auc_score(y, z, average="macro")))
rounded = np.round(z)
print("answers: auroc with ties", repr(metrics.roc_auc_score(y, rounded, average="macro")))

z, y = outputs(80, 3), outputs(160, 3)[80:] * np.float32(0.5) + outputs(80, 3) * np.float32(0.75)
z, y = z.astype(np.float64), y.astype(np.float64)
print("mean absolute error", repr(metrics.mean_absolute_error(y, z)))
print("r2", repr(metrics.r2_score(y, z)))
