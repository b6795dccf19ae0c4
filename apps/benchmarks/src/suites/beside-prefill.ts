/** One sequence decodes while another one prefills: how long it waits for its tokens, with each contender. */
import type { BesideSample, ContenderSettings } from '../contenders/contender.js';
import type { ContenderClient } from '../contenders/contender-client.js';
import type { BesidePrefillRow } from './batch-result.js';
import type { RowName } from './bench-row.js';
import { toBesideRow } from './beside-row.js';
import { inTurns } from './in-turns.js';

/** Tokens of the peer's steps that it is tried with: its default, and fewer, for shorter waits. */
const PEER_BATCH_SIZES = [512, 128];

export interface BesidePrefillInput {
  /** Sequence 0 of each is prefilled. */
  readonly ours: ContenderClient;
  readonly peer: ContenderClient | null;
  /** What the other sequence prefills. */
  readonly other: Int32Array;
  /** All threads: the waits are for prefilled tokens, which are bound by arithmetic. Sequences: those that states were saved with. */
  readonly peerSettings: Pick<ContenderSettings, 'threads' | 'sequences'>;
  readonly denseBelow: number | undefined;
  /** Decoded alone before each prefill. */
  readonly tokensPerRound: number;
  /** Prefills of each contender; 0: none is measured. */
  readonly rounds: number;
  readonly onProgress: (line: string) => void;
}

/** The peer has a row for each flash setting and each size of a step: which of them is best shows there. */
export async function besidePrefillRows(input: BesidePrefillInput): Promise<BesidePrefillRow[]> {
  const { tokensPerRound, rounds, other, onProgress } = input;
  if (rounds === 0) return [];
  onProgress('a running sequence beside a prefill');
  const entrants = entrantsOf(input);
  const turns = entrants.map(({ client, settings }, index): [string, () => Promise<BesideSample>] => [
    String(index),
    async () => {
      await client.configure(settings);
      return await client.decodeBesidePrefill(tokensPerRound, other);
    },
  ]);
  const taken = await inTurns(Object.fromEntries(turns), { rounds, warmUp: false, onProgress });
  return entrants.map(({ name, settings }, index) => toBesideRow(name, settings, taken[index]!));
}

interface Entrant {
  readonly name: RowName;
  readonly client: ContenderClient;
  readonly settings: ContenderSettings;
}

function entrantsOf({ ours, peer, peerSettings, denseBelow }: BesidePrefillInput): Entrant[] {
  const own: Entrant[] = [
    { name: 'full', client: ours, settings: { method: 'full' } },
    { name: 'ctkvr', client: ours, settings: { method: 'ctkvr', denseBelow } },
  ];
  if (peer === null) return own;
  const peers = [false, true].flatMap((flashAttention) =>
    PEER_BATCH_SIZES.map(
      (batchSize): Entrant => ({
        name: 'node-llama-cpp',
        client: peer,
        settings: { ...peerSettings, flashAttention, batchSize },
      }),
    ),
  );
  return [...own, ...peers];
}
