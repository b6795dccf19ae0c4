/** What stands in every result, whatever was measured. */
import type { Machine } from '../machine.js';

export interface RunHead {
  /** ISO 8601, when the run began. */
  readonly date: string;
  readonly machine: Machine;
  /** The commit this program ran from, `+` behind it where files differed; null outside a checkout. */
  readonly commit: string | null;
}

/** The same for a run of a model. */
export interface ResultHead extends RunHead {
  readonly model: ModelFile;
}

export interface ModelFile {
  readonly name: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

/** How tokens were decoded. */
export interface DecodeSettings {
  readonly tokensPerRound: number;
  /** Given to our selector; null = the preset's. */
  readonly denseBelow: number | null;
}
