# %% [markdown]
# # From a picture to cycles
# Cells as in a notebook: run them in VS Code, Spyder or PyCharm, convert them with jupytext, or run the whole file.

# %%
import numpy as np

import xaisim
from xaisim.models.images import test_scene
from xaisim.models.load import load_model

report = xaisim.explain(model="cifar_cnn", method="integrated_gradients", n_steps=16, arch="zcu104")
print(
    f"class {report.prediction.target}, {report.cycles.total:,} cycles, {report.fidelity.sqnr_db:.1f} dB beside float64"
)

# %% [markdown]
# Another method is another name; time alone needs no picture.

# %%
for method in ("forward", "saliency", "gradcam", "integrated_gradients"):
    print(f"{method:22s} {xaisim.profile(model='cifar_cnn', method=method, arch='zcu104').cycles.total:>12,} cycles")

# %% [markdown]
# Arrays in, arrays out, for a whole batch. `device="float"` is the float64 reference.

# %%
pictures = np.concatenate([test_scene(load_model("cifar_cnn"), n).x for n in (0, 1)])
exact = xaisim.attribute(pictures, model="cifar_cnn", n_steps=16, device="float")
for numerics in ("fixed16", "fixed8"):
    fixed = xaisim.attribute(pictures, model="cifar_cnn", n_steps=16, numerics=numerics)
    print(numerics, "correlates with float64:", np.corrcoef(fixed.ravel(), exact.ravel())[0, 1].round(4))
