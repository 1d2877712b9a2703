# %% [markdown]
# # PAIR's saliency library over a simulated accelerator
# `pip install saliency`. Its own algorithms run; each gradient that they ask for is computed in fixed point.

# %%
import numpy as np
import saliency.core as saliency

from xaisim.adapters import pair_model
from xaisim.models.images import test_scene
from xaisim.models.load import load_model

picture = test_scene(load_model("cifar_cnn"), 0).x[0].transpose(1, 2, 0)  # channels last, normalised
call_model = pair_model("cifar_cnn", arch="pynq_z2", numerics="fixed16")

# %%
gradient = saliency.GradientSaliency().GetMask(picture, call_model, {"class_idx": 0})
path = saliency.IntegratedGradients().GetMask(
    picture, call_model, {"class_idx": 0}, x_steps=9, x_baseline=np.zeros_like(picture), batch_size=9
)
cam = saliency.GradCam().GetMask(picture, call_model, {"class_idx": 0})
print(gradient.shape, path.shape, cam.shape)
