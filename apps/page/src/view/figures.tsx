import type { Answer } from '../state/conversation.js';
import { count, percent } from './numbers.js';

/** Speed and reading of one answer: the page's own measure while it comes in, then the server's. */
export function Figures({ answer: { statistics, tokensPerSecond, firstTokenMs } }: { answer: Answer }) {
  const speed = statistics ? 1000 / statistics.ms_per_token : tokensPerSecond;
  const firstMs = statistics?.time_to_first_token_ms ?? firstTokenMs;
  return (
    <p class="figures">
      {speed !== null && Number.isFinite(speed) && <span>{speed.toFixed(1)} tokens/s</span>}
      {statistics !== null && (
        <span>
          read {count(statistics.keys_read_per_head)} of {count(statistics.keys_per_head)} keys (
          {percent(statistics.keys_read_per_head / statistics.keys_per_head)})
        </span>
      )}
      {firstMs !== null && <span>first token after {(firstMs / 1000).toFixed(2)} s</span>}
    </p>
  );
}
