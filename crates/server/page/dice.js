// With which probabilities a token is drawn: the arithmetic of the server's draw (kernels/src/draw.rs), for whoever moves its
// settings. No element of the page is known here.

/** The weight of the likeliest token. Weights are whole numbers there, so they are here. */
const UNIT = 2 ** 40;

const sum = (values) => values.reduce((a, b) => a + b, 0);

/**
 * The probabilities of a draw from tokens with these log-probabilities, the likeliest first: of the first `top_k` (0 for all)
 * the fewest that have `top_p` of the weight are kept. Settings are 32-bit numbers, as the server has them.
 */
export function probabilities(logprobs, { temperature, top_k, top_p }) {
  const [heat, share] = [Math.fround(temperature), Math.fround(top_p)];
  if (heat <= 0) return logprobs.map((_, at) => (at === 0 ? 1 : 0));
  const kept = top_k > 0 ? top_k : logprobs.length;
  const weight = (logprob) => Math.round(UNIT * Math.exp(Math.fround(Math.fround(logprob - logprobs[0]) / heat)));
  const weights = logprobs.map((logprob, at) => (at < kept ? weight(logprob) : 0));
  if (share < 1) {
    const enough = Math.max(1, Math.ceil(share * sum(weights)));
    let reached = 0;
    weights.forEach((weight, at) => {
      if (reached >= enough) weights[at] = 0;
      reached += weight;
    });
  }
  const total = sum(weights);
  return weights.map((weight) => weight / total);
}
