/** The program that a model runs in (process-engine.ts has its other end): native code that fails ends this process and no other. */
import type { CallMessage, ReplyMessage } from '../remote/messages.js';
import { ProcessChannel } from '../remote/process-channel.js';
import { serveCalls } from '../remote/serve-calls.js';
import { ENGINE_SERVICE } from './engine-service.js';
import { HEARTBEAT_SERVICE, heartbeat } from './heartbeat.js';
import { ModelService } from './model-service.js';
import { SESSIONS_SERVICE } from './process-sessions.js';

// The parent closed the channel, or died. Native threads may be in the midst of a long prefill, which no orderly end would wait for.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
// A terminal sends these to the whole group; what is to end is the parent's decision.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});

const model = new ModelService();
serveCalls(new ProcessChannel<ReplyMessage, CallMessage>(process), {
  [HEARTBEAT_SERVICE]: heartbeat,
  [ENGINE_SERVICE]: model,
  get [SESSIONS_SERVICE]() {
    return model.sessions; // there once it is loaded
  },
});
