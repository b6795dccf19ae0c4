/** What several tests of plans begin from. */
import { type DeviceSpec, type HostSpec, knownCards, modelShapes, type PlanOptions } from '../../src/index.js';

/** The context of the project's design of the device path. */
export const CONTEXT = 98_304;

export const server: HostSpec = { memoryBytes: 1e12, gigabytesPerSecond: 230 };

export function cardOf(name: string): DeviceSpec {
  const card = knownCards.find((known) => known.name === name);
  if (card === undefined) throw new Error(`no card ${name}`);
  return card;
}

/** A card with room for everything. */
export const boundless: DeviceSpec = { name: 'boundless', memoryBytes: 1e15, gigabytesPerSecond: 3350 };

/** Llama-3-8B at 96K in f16, one sequence, on a card with room for it. */
export function options(more: Partial<PlanOptions> = {}): PlanOptions {
  const model = modelShapes['llama-3-8b'];
  return { model, context: CONTEXT, sequences: 1, devices: [boundless], host: server, ...more };
}
