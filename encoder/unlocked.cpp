// Runs a model compiled by AOTInductor without Python's lock. PyTorch's own binding keeps it for the
// whole run (pytorch/pytorch issue 197516), so no message moves meanwhile.
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/utils/pybind.h>

#include <string>
#include <vector>

namespace py = pybind11;
using Loader = torch::inductor::AOTIModelPackageLoader;

PYBIND11_MODULE(unlocked, module) {
  py::class_<Loader>(module, "Loader", py::module_local())
      .def(py::init<const std::string&>())
      .def(
          "run",
          [](Loader& self, const std::vector<at::Tensor>& inputs) { return self.run(inputs); },
          py::call_guard<py::gil_scoped_release>());
}
