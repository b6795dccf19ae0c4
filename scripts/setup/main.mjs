// `node scripts/setup/main.mjs packages | build`
import { runMain } from '../lib/messages.mjs';
import { goals, setup } from './setup.mjs';

const goal = process.argv[2] ?? '';
if (!Object.hasOwn(goals, goal))
  throw new Error(`setup: unknown goal '${goal}'; one of ${Object.keys(goals).join(', ')}`);
await runMain(() => setup(/** @type {keyof typeof goals} */ (goal)));
