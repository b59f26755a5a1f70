// Several equations of the paper in JavaScript, written from the equations, for node vectors/reader.mjs.
// Arrays are {shape, data}, data in row-major order. τ is the signal level: 0 is pure noise, 1 is clean data.

export const readings = {
  ...{ A2: "uniform", A3: "timestep", A7: "both", A8: "mean", A27: "joint" },
  ...{ A13: "v_next", A14: "v", A15: "t", A17: "0..8", A23: "raw", A29: "valid" },
};
export const settings = { k_max: 64 };

const like = (x, f) => ({ shape: x.shape, data: x.data.map(f) });
const sum = (list) => list.reduce((total, x) => total + x, 0);
const rows = (x) => {
  const width = x.shape.at(-1);
  return Array.from({ length: x.data.length / width }, (_, i) => x.data.slice(i * width, (i + 1) * width));
};
const logSoftmax = (row) => {
  const largest = Math.max(...row);
  const total = Math.log(sum(row.map((x) => Math.exp(x - largest))));
  return row.map((x) => x - largest - total);
};

/** Eq. (1): (1 − τ) z0 + τ z1, one τ for each timestep. */
function corrupt(z0, z1, tau) {
  const each = z0.data.length / tau.data.length;
  return like(z0, (x, i) => (1 - tau.data[Math.floor(i / each)]) * x + tau.data[Math.floor(i / each)] * z1.data[i]);
}

const ramp = (tau) => 0.9 * tau + 0.1; // Eq. (8)

/** The network of the vectors: ẑ1 = gain z + offset + action_gain Σ actions, by the label (τ, d) of each timestep. */
function predict(table, z, tau, d, actions) {
  const each = z.length / tau.length;
  const width = actions.length / tau.length;
  return z.map((x, i) => {
    const t = Math.floor(i / each);
    const near = (label, n) => table.d.data[n] === d[t] && Math.abs(label - tau[t]) <= table.tolerance;
    const row = table.tau.data.findIndex(near);
    if (row < 0) return 0;
    const bias = table.action_gain * sum(actions.slice(t * width, (t + 1) * width));
    return table.gain.data[row] * x + table.offset.data[row * each + (i % each)] + bias;
  });
}

/** Eq. (2): x + v̂ d with v̂ = (x̂1 − x)/(1 − τ). */
const euler = (x, x1, tau, d) => x + ((x1 - x) / (1 - tau)) * d;

function sampleFrame({ network, actions, num_steps: K, start }) {
  const [batch, time, width] = actions.shape;
  const last = actions.data.filter((_, i) => Math.floor(i / width) % time === time - 1); // of the generated frame
  let z = start.data;
  for (let k = 0; k < K; k += 1) {
    const x1 = predict(network, z, Array(batch).fill(k / K), Array(batch).fill(1 / K), last);
    z = z.map((x, i) => euler(x, x1[i], k / K, 1 / K));
  }
  return { frame: { shape: start.shape, data: z } };
}

/** Eq. (7) for one number: z′, and the x-space target z̃ + (1 − τ)(b′ + b″)/2. */
const halfStep = (z, first, tau, d) => z + (((first - z) / (1 - tau)) * d) / 2;
const target = (z, first, second, tau, d) => {
  const next = halfStep(z, first, tau, d);
  return z + ((1 - tau) * ((first - z) / (1 - tau) + (second - next) / (1 - (tau + d / 2)))) / 2;
};

/** Eq. (6)–(8): flow error at d = 1/K_max, bootstrap error above it, each times w(τ). */
function shortcutForcing({ network, z1, z0, tau, d, actions }, { k_max: kMax }) {
  const z = corrupt(z0, z1, tau).data;
  const each = z.length / tau.data.length;
  const at = (list, i) => list[Math.floor(i / each)];
  const call = (x, level, step) => predict(network, x, level, step, actions.data);
  const [half, middle] = [d.data.map((x) => x / 2), tau.data.map((x, i) => x + d.data[i] / 2)];
  const student = call(z, tau.data, d.data);
  const first = call(z, tau.data, half);
  const second = call(z.map((x, i) => halfStep(x, first[i], at(tau.data, i), at(d.data, i))), middle, half);
  const error = student.map((x, i) => {
    if (at(d.data, i) * kMax === 1) return (x - z1.data[i]) ** 2;
    return (x - target(z[i], first[i], second[i], at(tau.data, i), at(d.data, i))) ** 2;
  });
  const timesteps = like(tau, (x, t) => (ramp(x) * sum(error.slice(t * each, (t + 1) * each))) / each);
  return { timesteps, loss: sum(timesteps.data) / timesteps.data.length };
}

/** Eq. (4): every pair (τ, d), the largest step first. */
function pairs(kMax) {
  const list = [];
  for (let n = 1; n <= kMax; n *= 2) for (let k = 0; k < n; k += 1) list.push([k / n, 1 / n]);
  const column = (f) => ({ shape: [list.length], data: list.map(f) });
  const steps = Math.log2(kMax) + 1;
  return { tau: column(([tau]) => tau), d: column(([, d]) => d), probability: column(([, d]) => d / steps) };
}

/** Eq. (10): R_t = r_t + γ c_t ((1 − λ) v_{t+1} + λ R_{t+1}), R_H = v_H. */
function lambdaReturns({ reward, value, cont, gamma, lam }) {
  const H = reward.shape[1];
  const returns = like(reward, () => 0);
  for (let i = reward.data.length - 1; i >= 0; i -= 1) {
    const next = value.data[i + Math.floor(i / H) + 1];
    const following = i % H === H - 1 ? next : returns.data[i + 1];
    returns.data[i] = reward.data[i] + gamma * cont.data[i] * ((1 - lam) * next + lam * following);
  }
  return returns;
}

/** Eq. (11): PMPO; log-probabilities and KLs of several components are added. */
function policyLoss(logits, priors, action, advantage, alpha, beta) {
  const N = advantage.data.length;
  const negative = advantage.data.filter((x) => x < 0).length;
  const weight = advantage.data.map((x) => (x < 0 ? (1 - alpha) / negative : -alpha / (N - negative)));
  return sum(logits.map((component, f) => {
    const prior = rows(priors[f]).map(logSoftmax);
    return sum(rows(component).map(logSoftmax).map((logPi, n) => {
      const kl = sum(logPi.map((x, a) => Math.exp(x) * (x - prior[n][a])));
      return weight[n] * logPi[action.data[n * logits.length + f]] + (beta / N) * kl;
    }));
  }));
}

/** Eq. (9): x_{t+n} for n = 0 … L, and whether t + n < T. */
function targets({ x, length }) {
  const [batch, time] = x.shape;
  const index = Array.from({ length: batch * time * (length + 1) }, (_, i) => {
    const [t, n] = [Math.floor(i / (length + 1)), i % (length + 1)];
    return (t % time) + n < time ? t + n : -1;
  });
  const shape = [batch, time, length + 1];
  const [values, valid] = [index.map((i) => x.data[i] ?? 0), index.map((i) => i >= 0)];
  return { targets: { shape, data: values }, valid: { shape, data: valid } };
}

/** Two-hot: (x − b_k)/(b_{k+1} − b_k) on the upper of the two bins around x, the rest on the lower. */
function twohot({ x, bins: { data: bins } }) {
  const encode = (value) => {
    const inside = Math.min(Math.max(value, bins[0]), bins.at(-1));
    const k = Math.min(bins.findLastIndex((bin) => bin <= inside), bins.length - 2);
    const upper = (inside - bins[k]) / (bins[k + 1] - bins[k]);
    return bins.map((_, i) => (i === k + 1 ? upper : i === k ? 1 - upper : 0));
  };
  return { shape: [x.data.length, bins.length], data: x.data.flatMap(encode) };
}

/** RMSNorm: w x / √(mean(x²) + ε). */
function rmsNorm({ x, weight, eps }) {
  const size = (row) => Math.sqrt(sum(row.map((v) => v * v)) / row.length + eps);
  const scaled = (row) => row.map((v, i) => (weight.data[i] * v) / size(row));
  return { shape: x.shape, data: rows(x).flatMap(scaled) };
}

export const operations = {
  corrupt: ({ z0, z1, tau }) => ({ result: corrupt(z0, z1, tau) }),
  euler_step: ({ z, z1_hat, tau, d }) => {
    const each = z.data.length / tau.data.length;
    const step = (x, i) => euler(x, z1_hat.data[i], tau.data[Math.floor(i / each)], d.data[Math.floor(i / each)]);
    return { result: like(z, step) };
  },
  sample_frame: sampleFrame,
  sample_tau_d: (_, settings) => pairs(settings.k_max),
  tokenizer_loss: ({ mse, lpips }) => ({ result: mse.data[0] + 0.2 * lpips.data[0] }),
  dynamics_loss_at: shortcutForcing,
  ramp_weight: ({ tau }) => ({ result: like(tau, ramp) }),
  mtp_targets: targets,
  twohot_encode: (inputs) => ({ result: twohot(inputs) }),
  lambda_returns: (inputs) => ({ result: lambdaReturns(inputs) }),
  advantages: (inputs) => {
    const baseline = (i) => inputs.value.data[i + Math.floor(i / inputs.reward.shape[1])];
    return { result: like(lambdaReturns(inputs), (x, i) => x - baseline(i)) };
  },
  policy_loss: ({ logits, prior_logits, action, advantage, alpha, beta }) => ({
    result: policyLoss([logits], [prior_logits], action, advantage, alpha, beta),
  }),
  policy_loss_factored: ({ logits, prior_logits, action, advantage, alpha, beta }) => ({
    result: policyLoss(logits, prior_logits, action, advantage, alpha, beta),
  }),
  soft_cap: ({ logits, cap }) => ({ result: like(logits, (x) => cap * Math.tanh(x / cap)) }),
  rms_norm: (inputs) => ({ result: rmsNorm(inputs) }),
};
