/** The names of devices that users write, checked in one place for programs, the command line and the server. */
import { nearestName } from './nearest-name.js';
import type { OptionCheck } from './option-kinds.js';

/** 'auto': the first device that can be used, else the CPU. 'cuda': the first that can be used. 'cuda:N': that one. */
export type DeviceChoice = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`;

/** What an option that names a device takes. */
export const deviceCheck: OptionCheck = {
  expected: 'auto, cpu, cuda or cuda:N (N from 0)',
  accepts: (value) => typeof value === 'string' && /^(auto|cpu|cuda(:(0|[1-9]\d{0,2}))?)$/.test(value),
  isOptional: false,
  remedy: (value) => {
    const nearest = typeof value === 'string' ? nearestDevice(value) : null;
    return nearest === null ? undefined : `did you mean ${nearest}?`;
  },
};

/** `CUDA0`, `gpu:0` and `0` are `cuda:0`. To the letter, `gpu` would be nearest to `cpu`. */
function nearestDevice(text: string): DeviceChoice | null {
  const numbered = /^(?:cuda|gpu|nvidia)?[^a-z\d]*(\d{1,3})$/i.exec(text.trim());
  if (numbered !== null) return `cuda:${Number(numbered[1])}`;
  if (/gpu|nvidia/i.test(text)) return 'cuda';
  return nearestName(text, ['auto', 'cpu', 'cuda']) as DeviceChoice | null;
}
