/** Run by a test as a process of its own: exits while a step runs, as a program does on Ctrl-C. */
import { entry, ids, loadTestModel, sequenceWith } from './test-binding.js';

const model = await loadTestModel();
const sequence = await sequenceWith(model, []);
model.step([entry(sequence, ids(2000))], {}).catch(() => {});
setTimeout(() => {
  process.stdout.write('step runs\n');
  process.exit(130);
}, 100);
