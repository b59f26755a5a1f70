"""Dreamer 4 as executable equations: NumPy, float64, one module for each.

The paper is Hafner, Yan, Lillicrap 2025, "Training Agents Inside of Scalable World Models", arXiv:2509.24527v1.

| equation | module | what it says |
|---|---|---|
| Eq. (1), (6) | `eq01_corruption` | x_τ = (1 − τ) x₀ + τ x₁, and its velocity |
| Eq. (2) | `eq02_sampling` | Euler steps from noise to data; corruption of the context |
| Eq. (3) | `eq03_shortcut_target` | two half steps as the target of a full one, in velocities |
| Eq. (4) | `eq04_grid` | the step sizes d, the signal levels τ, and their exact laws |
| Eq. (5) | `eq05_tokenizer_loss` | MSE + 0.2 LPIPS |
| Eq. (6), (7) | `eq06_07_shortcut_forcing` | the loss of the dynamics: Eq. (3) for x-prediction |
| Eq. (8) | `eq08_ramp_weight` | w(τ) = 0.9 τ + 0.1 |
| Eq. (9) | `eq09_multi_token` | actions and rewards predicted several steps ahead |
| Eq. (10) | `eq10_lambda_return` | λ-returns, advantages and the loss of the value head |
| Eq. (11) | `eq11_pmpo` | the loss of the policy head |
| Sec. 3.1 | `loss_normalisation` | every loss divided by a running estimate of its root mean square |
| | `sec31_masks` | which modality may attend to which: encoder, decoder, dynamics |
| | `sec31_patch_dropout` | patches dropped in the tokenizer's training, and the exact law of their number |
| | `sec31_tokenizer` | patches, latents, the tanh bottleneck, and what the dynamics takes of it |
| Sec. 3.2 | `sec32_dynamics` | the tokens of a frame: spatial, registers, (τ, d), actions, agent |
| Sec. 3.3 | `twohot` | symexp two-hot distributions over scalars |
| Sec. 3.4 | `sec34_attention` | attention: grouped queries, the soft cap, the causal window |
| | `sec34_layers` | layers that mix space, layers that mix time |
| | `sec34_norms` | RMSNorm and QK-norm |
| | `sec34_rope` | rotary position embeddings |
| | `sec34_swiglu` | the MLP |
| Algorithm 1 | `algorithm1_training` | the phases of training, what each trains, what its batches consist of |
| Sec. 4 | `minecraft_actions` | keys, and the mouse as 121 μ-law classes |
| | `constants` | the numbers that the paper gives |
| | `levels` | what every equation demands of its arguments |

τ is the signal level everywhere: τ = 0 is pure noise, τ = 1 is clean data.
The step size d is one of 1, 1/2, …, 1/K_max.
Shapes: B batch, T time, S spatial tokens, D channels; z is (B, T, S, D), τ and d are (B, T).
Where the paper leaves a choice open, a keyword offers the readings, the default first; A1, A2, … are their ids.
"""
