import { describeOptions } from '@ctkvr/testkit';
import type { EngineSequence, StepEngine } from '../src/index.js';
import * as scheduler from '../src/index.js';
import { options } from './plan/examples.js';

const sequence: EngineSequence = { length: 0, truncate: () => {} };
const engine: StepEngine<EngineSequence> = { step: () => Promise.reject(new Error('not reached')), cancel: () => {} };
const composer = () => new scheduler.StepComposer(engine);

describeOptions(
  scheduler,
  {
    FairQueue: (more) => new scheduler.FairQueue({ maxRunning: 1, maxQueued: 1, ...more }),
    PageAdmission: (more) => new scheduler.PageAdmission({ pageSize: 1, ...more }),
    'PageAdmission.arrive': (more) =>
      new scheduler.PageAdmission({ pageSize: 1 }).arrive({ numTokens: 1, maxTokens: 1, bytesFor: () => 1, ...more }),
    plan: (more) => scheduler.plan({ ...options(), ...more }),
    planCards: (more) => scheduler.planCards({ ...options(), ...more }),
    StepComposer: (more) => new scheduler.StepComposer(engine, more),
    'StepComposer.append': (more) => composer().append(sequence, [1], { phase: 'decode', ...more }),
    'StepComposer.runExclusive': (more) => composer().runExclusive(async () => {}, more),
  },
  [],
);
