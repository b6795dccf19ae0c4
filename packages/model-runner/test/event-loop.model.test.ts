/**
 * The JavaScript thread stays free while the engine works. The bound is on the longest stall, so a machine whose cores others have taken
 * can break it without our doing: hence a few tries, and the stall of an idle loop in the message.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { expect, it } from 'vitest';
import { describeWithModel, prose } from './test-model.js';

/** Longest stall of the event loop that is accepted. */
const MAX_STALL_MS = 50;

const allThreads = { numThreads: 0 };

describeWithModel(
  'event loop',
  (model) => {
    it(`stalls for less than ${MAX_STALL_MS} ms in prefill, index build and decode`, {
      retry: 3,
      timeout: 240_000,
    }, async () => {
      await using session = model().createSession({ selector: { denseBelow: 512 } });
      const messages = [{ role: 'user', content: prose(600) }];
      const delay = monitorEventLoopDelay({ resolution: 5 });
      delay.enable();
      await new Promise((resolve) => setTimeout(resolve, 500));
      const idle = `an idle loop stalled for ${(delay.max / 1e6).toFixed(1)} ms`;
      delay.reset();
      await session.prefill(messages);
      const prefillMax = delay.max / 1e6;
      delay.reset();
      for await (const _event of session.generate({ maxTokens: 20, ignoreEndOfTurn: true }));
      const decodeMax = delay.max / 1e6;
      delay.disable();
      expect(prefillMax, idle).toBeLessThan(MAX_STALL_MS);
      expect(decodeMax, idle).toBeLessThan(MAX_STALL_MS);
    });
  },
  allThreads,
);
