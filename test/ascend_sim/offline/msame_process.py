"""What msame does with a loaded model: buffers in device memory, execution, result files."""

import os
import time
from typing import List, Optional

import numpy as np

from offline import om
from offline.msame_options import Options, number, say

MODEL_ID = 1
_GARBAGE = 0xCD  # what memory holds that nobody wrote
_SLACK = 64  # bytes that a buffer may be too small by: sizes are compared after alignment
_TYPES = {
    'float32': 0,
    'float16': 1,
    'int8': 2,
    'int32': 3,
    'uint8': 4,
    'int16': 6,
    'uint16': 7,
    'uint32': 8,
    'int64': 9,
    'uint64': 10,
    'float64': 11,
    'bool': 12,
}


class Failed(Exception):
    """The tool ends with status 1, after it has cleaned up; the argument is a line that it prints
    first, or None.
    """


def old_build() -> bool:
    """True if a build of 2021 is to be imitated, which prints fewer lines: ASCEND_SIM_MSAME_OLD=1."""
    return os.environ.get('ASCEND_SIM_MSAME_OLD') == '1'


class Process:
    """One loaded model with its input and output buffers."""

    def __init__(self, options: Options):
        self._options, self._model, self._gear, self._buffers, self._outputs = (
            options,
            None,
            0,
            [],
            [],
        )

    def load(self) -> None:
        """Loads the model and checks the flags for dynamic models against it."""
        options = self._options
        try:
            self._model = om.Model(options.model or '')
        except om.OmError as error:
            print('E19999: Inner Error!\nE19999  %s' % error, flush=True)
            say('ERROR', 'load model from file failed, model file is %s', options.model or '')
            raise Failed('load model from file failed')
        say('INFO', 'load model %s success', options.model)
        say('INFO', 'create model description success')
        if not old_build():
            say('INFO', 'get input dynamic gear count success')
        kind, gears = self._model.kind, self._model.gears
        for name, wanted, flag, check in (
            ('dymBatch', 'batch', 'dynamic_batch_size', 'dynamic batch size'),
            ('dymHW', 'image', 'dynamic_image_size', 'dynamic image size'),
        ):
            value = getattr(options, name)
            if value is None:
                continue
            profile = [value] if name == 'dymBatch' else [number(item) for item in value.split(',')]
            if kind != wanted:
                say('ERROR', 'the %s parameter is not specified for model conversion', flag)
                raise Failed('check %s failed' % check)
            if profile not in gears:
                say('ERROR', 'the %s parameter is not correct', name)
                if name == 'dymBatch':
                    say(
                        'ERROR',
                        'model has dynamic batch size:{%s}, please set correct dynamic batch size',
                        ''.join('[%d]' % gear[0] for gear in gears),
                    )
                raise Failed('check %s failed' % check)
            self._gear = gears.index(profile)
            say(
                'INFO',
                (
                    'check dynamic batch success'
                    if name == 'dymBatch'
                    else 'check dynamic image size success.'
                ),
            )
        if options.dymShape is not None:
            raise Failed(
                'check dynamic shape failed'
                if options.inputs
                else 'the dymShape parameter must be used with the input parameter'
            )
        if options.dymDims is not None:
            self._choose_dims(kind, gears)
        elif kind == 'dims':
            raise Failed('model has dynamic_dims, please add dymDims parameter')
        if kind and any(
            value is not None for value in (options.dymBatch, options.dymHW, options.dymDims)
        ):
            say('INFO', 'get input index by name success')
        if options.debug == 'true':
            self._describe()
        self._create_outputs()

    def _choose_dims(self, kind, gears) -> None:
        if kind != 'dims':
            raise Failed('the dynamic_dims parameter is not specified for model conversion')
        wanted = [
            number(size)
            for item in self._options.dymDims.split(';')
            if ':' in item
            for size in item.rpartition(':')[2].split(',')
        ]
        whole = [sum(self._model.input_shapes(index), []) for index in range(len(gears))]
        if wanted not in whole:
            say('ERROR', 'the dynamic_dims parameter is not correct')
            say('ERROR', 'model has %d gear of dims', len(whole))
            for index, gear in enumerate(whole):
                say('ERROR', 'dims[%d]:%s', index, ''.join('[%d]' % size for size in gear))
            raise Failed('check dynamic dims failed, please set correct dymDims paramenter')
        self._gear = whole.index(wanted)
        say('INFO', 'check dynamic dims success')
        say('INFO', 'prepare dynamic dims successful')

    def _describe(self) -> None:
        say('DEBUG', 'start print model description')
        say('DEBUG', 'NumInputs: %d', len(self._model.inputs))
        say('DEBUG', 'NumOutputs: %d', len(self._model.outputs))
        for kind, items in (('input', self._model.inputs), ('output', self._model.outputs)):
            for index, item in enumerate(items):
                shape = item['shape'] if kind == 'input' else item['shapes'][-1]
                say(
                    'DEBUG',
                    'the size of %d %s: %d',
                    index,
                    kind,
                    self._input_sizes(-1)[index] if kind == 'input' else self._output_size(item),
                )
                say('DEBUG', 'the dims of %d %s:', index, kind)
                print(''.join('%d ' % size for size in shape), flush=True)
                say('DEBUG', 'the name of %d %s: %s', index, kind, item['name'])
                say('DEBUG', 'the Format of %d %s: %d', index, kind, 1 if len(shape) == 4 else 2)
                say('DEBUG', 'the DataType of %d %s: %d', index, kind, _TYPES[item['dtype']])
        say('DEBUG', 'end print model description')

    def _input_sizes(self, gear: int) -> List[int]:
        """Bytes of each input in a profile."""
        return [
            om.nbytes(shape, item['dtype'])
            for shape, item in zip(self._model.input_shapes(gear), self._model.inputs)
        ]

    @staticmethod
    def _output_size(item) -> int:
        return max(om.nbytes(shape, item['dtype']) for shape in item['shapes'])

    def _create_outputs(self) -> None:
        sizes = self._options.output_sizes
        if sizes and len(sizes) != len(self._model.outputs):
            say(
                'ERROR',
                'om has %d output, but outputSize parametet give %d',
                len(self._model.outputs),
                len(sizes),
            )
            raise Failed('create model output failed')
        for index, item in enumerate(self._model.outputs):
            self._outputs.append(
                bytearray([_GARBAGE]) * (sizes[index] if sizes else self._output_size(item))
            )
        say('INFO', 'create model output success')

    @property
    def _dynamic(self) -> bool:
        return any(
            value is not None
            for value in (self._options.dymBatch, self._options.dymHW, self._options.dymDims)
        )

    def add_input(self, data: bytes) -> None:
        """One more input buffer. A dynamic model's profile is an input of its own, after the
        others.
        """
        self._buffers.append(data)
        if self._dynamic and len(self._buffers) == len(self._model.inputs):
            self._buffers.append(b'')

    def add_zeros(self) -> None:
        """Zeros for every input."""
        for size in self._input_sizes(self._gear):
            self._buffers.append(bytes(size))
        if self._model.kind:
            self._buffers.append(b'')

    def clear_inputs(self) -> None:
        """Gives the input buffers back, if there are any."""
        if self._buffers:
            self._buffers = []
            if not old_build():
                say('INFO', 'destroy model input success')

    def _problem(self) -> Optional[str]:
        """Why the device would refuse the buffers. Too large is fine; so is too small by up to 64
        bytes.
        """
        wanted = len(self._model.inputs) + (1 if self._model.kind else 0)
        if len(self._buffers) != wanted:
            return 'is_input:1 blob size:%d from user != op_size:%d in model, mode_id:%d' % (
                len(self._buffers),
                wanted,
                MODEL_ID,
            )
        if self._model.kind:
            return (
                None
                if self._dynamic
                else 'the profile of the dynamic model %d is not set' % MODEL_ID
            )
        pairs = [
            ('input', len(data), size) for data, size in zip(self._buffers, self._input_sizes(0))
        ]
        pairs += [
            ('output', len(data), self._output_size(item))
            for data, item in zip(self._outputs, self._model.outputs)
        ]
        for name, size, needed in pairs:
            if size + _SLACK < needed:
                return (
                    '%s size:%d from user add align:%d < op_size:%d in model, model_id:%d, check'
                    ' invalid' % (name, size, _SLACK, needed, MODEL_ID)
                )
        return None

    def execute(self) -> Optional[float]:
        """Runs the model on the buffers: milliseconds, or None if it failed."""
        problem = self._problem()
        if problem:
            print(
                'E19999: Inner Error!\nE19999  %s\n        TraceBack (most recent call last):\n'
                % problem,
                flush=True,
            )
            say('ERROR', 'execute model failed, modelId is %d', MODEL_ID)
            return None
        arrays = []
        for data, item, shape in zip(
            self._buffers, self._model.inputs, self._model.input_shapes(self._gear)
        ):
            size = om.nbytes(shape, item['dtype'])
            data = data[:size] + bytes([_GARBAGE]) * (size - len(data))
            arrays.append(np.frombuffer(data, item['dtype']).reshape(shape))
        self._model.prepare(self._gear)
        begin = time.perf_counter()
        results = self._model.run(arrays, self._gear)
        milliseconds = 1000 * (time.perf_counter() - begin)
        for buffer, result in zip(self._outputs, results):
            data = result.tobytes()[: len(buffer)]
            buffer[: len(data)] = data
        say('INFO', 'model execute success')
        return milliseconds

    def write(self, folder: str, stem: str) -> None:
        """<folder>/<stem>_output_<i>.bin|txt. With --dymBatch b of at most m: the buffer's first
        len // (m // b) bytes.
        """
        if not old_build():
            say('INFO', 'get max dynamic batch size success')
        for index, (buffer, item) in enumerate(zip(self._outputs, self._model.outputs)):
            length = len(buffer)
            if self._options.dymBatch:
                length //= max(gear[0] for gear in self._model.gears) // self._options.dymBatch
            path = '%s/%s_output_%d' % (folder, stem, index)
            if self._options.outfmt != 'TXT':
                with open(path + '.bin', 'wb') as file:
                    file.write(buffer[:length])
            else:
                write_text(
                    path + '.txt', bytes(buffer[:length]), item['dtype'], item['shapes'][self._gear]
                )
        say('INFO', 'output data success')

    def unload(self) -> None:
        """What the tool prints when it lets the model go."""
        if self._model is None:
            say('WARN', 'no model had been loaded, unload failed')
        else:
            say('INFO', 'unload model success, model Id is %d', MODEL_ID)
        self.clear_inputs()


def write_text(path: str, data: bytes, dtype: str, shape: List[int]) -> None:
    """Numbers with 6 significant digits and a space after each; a new line after each run of the
    last dimension (not for vectors).
    """
    size = np.dtype(dtype).itemsize
    values = np.frombuffer(data[: len(data) // size * size], dtype)
    if dtype in ('int8', 'uint8'):
        words = [
            chr(value % 256) for value in values.tolist()
        ]  # a C++ stream takes them for characters
    elif values.dtype.kind == 'f':
        words = ['%g' % value for value in values.tolist()]
    else:
        words = ['%d' % value for value in values.tolist()]
    row = shape[-1] if len(shape) > 1 else len(words) + 1
    with open(path, 'w', encoding='latin-1', newline='') as file:
        for start in range(0, len(words), row):
            part = words[start : start + row]
            file.write(''.join(word + ' ' for word in part) + ('\n' if len(part) == row else ''))
