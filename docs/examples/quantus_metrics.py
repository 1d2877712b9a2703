# %% [markdown]
# # Quantus' metrics of a simulated accelerator
# `pip install quantus` and PyTorch. The network that is perturbed and the method that is judged are both the machine's.

# %%
import numpy as np
import quantus

from xaisim.adapters import quantus_explain, quantus_model
from xaisim.models.images import test_scene
from xaisim.models.load import load_model

pictures = np.concatenate([test_scene(load_model("cifar_cnn"), n).x for n in (0, 1)])
machine = {"arch": "pynq_z2", "numerics": "fixed16"}
model = quantus_model("cifar_cnn", **machine)

# %%
metric = quantus.PixelFlipping(features_in_step=256, perturb_baseline="black", disable_warnings=True)
for method in ("saliency", "input_x_gradient"):
    curves = metric(
        model=model, x_batch=pictures, y_batch=np.array([0, 1]), a_batch=None, device="cpu", channel_first=True,
        explain_func=quantus_explain(method, "cifar_cnn", **machine),
    )  # fmt: skip
    print(f"{method:18s}", np.round(np.mean(curves, axis=1), 3))
