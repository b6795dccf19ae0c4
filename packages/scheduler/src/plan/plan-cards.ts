/** Which card is needed: the least memory for each place of keys and values, and what each known card does. */
import { knownCards } from './known-cards.js';
import type { DeviceSpec } from './machine-spec.js';
import { placedMemory } from './placed-memory.js';
import { type LayerPlace, layerPlaces } from './placement.js';
import { type Plan, planDevice, workInput } from './plan.js';
import { checkPlanOptions, type PlanOptions } from './plan-options.js';
import { totalBytes } from './read-bytes.js';

/** What a placement with all layers in one place takes. */
export interface CardNeed {
  readonly place: LayerPlace;
  readonly deviceBytes: number;
  readonly hostBytes: number;
  readonly fitsHost: boolean;
}

export interface CardPlan {
  readonly card: DeviceSpec;
  /** null when it does not fit. */
  readonly plan: Plan | null;
}

export interface CardPlans {
  readonly needs: readonly CardNeed[];
  /** In the order of `devices`. */
  readonly cards: readonly CardPlan[];
}

/** Options of a plan. `devices` are the cards in question; default: the known ones. */
export type CardPlansOptions = Omit<PlanOptions, 'devices'> & Partial<Pick<PlanOptions, 'devices'>>;

/** Returns what memory is needed, and what each card would do. @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function planCards(given: CardPlansOptions): CardPlans {
  const options: PlanOptions = { ...given, devices: given.devices ?? knownCards };
  checkPlanOptions('planCards', options);
  return {
    needs: layerPlaces.map((place) => cardNeed(place, options)),
    cards: options.devices.map((card) => ({ card, plan: planDevice(card, options) })),
  };
}

function cardNeed(place: LayerPlace, options: PlanOptions): CardNeed {
  const input = workInput(options.devices[0]!, options);
  const layers = { device: 0, hybrid: 0, host: 0, [place]: input.model.numLayers };
  const placement = { layers, microBatches: 1 as const };
  const memory = placedMemory({ ...input, placement, numSequences: options.sequences });
  const hostBytes = totalBytes(memory.host);
  return { place, deviceBytes: totalBytes(memory.device), hostBytes, fitsHost: hostBytes <= options.host.memoryBytes };
}
