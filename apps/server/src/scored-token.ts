/** A token's log probability in OpenAI's shape, of chat completions and responses. */
import type { LikelyToken, ScoredToken } from './chat-engine.js';

export function toScored(token: ScoredToken) {
  return { ...toToken(token), top_logprobs: token.top.map(toToken) };
}

function toToken({ bytes, logprob }: LikelyToken) {
  return { token: Buffer.from(bytes).toString('utf8'), logprob, bytes: Array.from(bytes) };
}
