"""The managed node: lifecycle, parameters and timers around a Pipeline."""

from __future__ import annotations

import signal
import sys
import time

from lifecycle_msgs.msg import State
import rclpy
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from offroad_seg_core.inference.engines import EngineError
from offroad_seg_core.memory import keep_freed_memory, release_freed_memory
from offroad_seg_ros.engine_preparation import EnginePreparation
from offroad_seg_ros.lifecycle_guards import refuse_invalid_transitions, tell_errors
from offroad_seg_ros.monitor import Monitor
from offroad_seg_ros.parameter_handling import ParameterHandling
from offroad_seg_ros.params import NodeParams
from offroad_seg_ros.pipeline import Pipeline
from offroad_seg_ros.process import LogForwarder, send_in_background

DIAGNOSTICS_PERIOD_S = 1.0
TOPIC_WATCH_PERIOD_S = 0.3
_SIGNAL_TIMEOUT_S = 1.0

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class SegmentationNode(LifecycleNode):
    """Camera frames in, labels, traversability and overlays out.

    configure loads the model and makes the output topics; FAILURE leaves the node unconfigured
    with the reason in the log and in /diagnostics. activate subscribes. deactivate unsubscribes
    and waits for the frame in work. cleanup frees the model.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__('segmentation_node', **kwargs)
        self._forwarder = LogForwarder(self.get_logger())
        self._forwarder.install()
        self._pipeline: Pipeline | None = None
        self._parameter_handling = ParameterHandling(
            self,
            is_configured=lambda: self._pipeline is not None,
            check=self._check_parameters,
            apply=self._apply_parameters,
        )
        self._monitor = Monitor(self)
        self._preparation = EnginePreparation()
        # A ROS clock may stand still (use_sim_time before the bag plays); these must not.
        self._steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._report, clock=self._steady_clock)
        self.create_timer(TOPIC_WATCH_PERIOD_S, self._watch_topics, clock=self._steady_clock)
        backwards = JumpThreshold(
            min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False
        )
        self._jump_handle = self.get_clock().create_jump_callback(
            backwards, post_callback=self._on_clock_jump
        )
        refuse_invalid_transitions(self, self.prepare)

    async def prepare(self) -> bool:
        """Open what configure needs while the node goes on answering.

        Returns False if that is under way already, or the node was shut down meanwhile.
        Configure works without it, and keeps callbacks waiting for as long as it takes.
        """
        if self._preparation.is_running:
            self.get_logger().warning('the engine is being prepared already; wait for its end')
            return False
        self._monitor.activity = 'preparing the engine, which takes minutes if it must be built'
        try:
            await self._preparation.run(self._parameter_handling.read, self.executor)
        except ValueError:
            pass  # told by configure
        finally:
            self._monitor.activity = ''
        if self._state_machine.current_state[0] != State.PRIMARY_STATE_UNCONFIGURED:
            self._preparation.stop()  # the node was shut down meanwhile
            return False
        return True

    async def start(self) -> None:
        """Prepare and start as the parameters say; for an executor that serves this node."""
        if self.get_parameter('autostart').value and await self.prepare():
            self.autostart()

    async def build(self) -> bool:
        """Prepare and configure only; return whether that works."""
        works = await self.prepare() and self.trigger_configure() == SUCCESS
        self.get_logger().info('built only; the end' if works else 'nothing was built')
        return works

    def autostart(self) -> bool:
        """Configure and activate if the parameter says so; return whether the node is active."""
        if not self.get_parameter('autostart').value:
            return False
        return self.trigger_configure() == SUCCESS and self.trigger_activate() == SUCCESS

    @tell_errors
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, load the model, make the output topics."""
        try:
            params = self._parameter_handling.read()
            self._pipeline = Pipeline(self, params, self._preparation.take)
        except (ValueError, EngineError, OSError) as error:
            self.tell_failure(f'configure failed: {error}')
            self.get_logger().error(f'configure failed: {error}')
            return FAILURE
        finally:
            release_freed_memory()  # of the engines that `auto` tried
        self.tell_failure('')
        self._monitor.describe(self._pipeline)
        self._watch_topics()
        return SUCCESS

    @tell_errors
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start working."""
        self._pipeline.activate()
        return SUCCESS

    @tell_errors
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and let the frame in work end."""
        self._pipeline.deactivate()
        return SUCCESS

    @tell_errors
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the output topics."""
        self._close_pipeline()
        return SUCCESS

    @tell_errors
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, whatever the state was."""
        self._preparation.stop()
        self._close_pipeline()
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything and become unconfigured."""
        self._close_pipeline()
        return SUCCESS

    def destroy_node(self) -> None:
        """Free everything and leave the graph."""
        self._preparation.close()
        self._close_pipeline()
        self._forwarder.remove()
        self._jump_handle.unregister()
        super().destroy_node()

    def tell_failure(self, text: str) -> None:
        """Let /diagnostics say why the node is not configured; '' says nothing."""
        self._monitor.failure = text

    def _close_pipeline(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.close()
            del pipeline
            release_freed_memory()

    def _check_parameters(self, params: NodeParams) -> None:
        if self._pipeline is not None:
            self._pipeline.check(params)

    def _apply_parameters(self, params: NodeParams) -> None:
        if self._pipeline is not None:
            self._pipeline.apply(params)

    def _watch_topics(self) -> None:
        if self._pipeline is not None:
            self._pipeline.watch_topics()

    def _report(self) -> None:
        self._monitor.report(self._pipeline)

    def _on_clock_jump(self, jump: TimeJump) -> None:
        if self._pipeline is not None:
            self.get_logger().info(
                f'the ROS clock jumped back by {-jump.delta.nanoseconds / 1e9:.1f} s: '
                'statistics start anew'
            )
            self._pipeline.reset_statistics()


def _is_told_to_stop() -> bool:
    """Tell whether a signal ends the context, which takes a moment in a thread of rclpy."""
    deadline_s = time.monotonic() + _SIGNAL_TIMEOUT_S
    while rclpy.ok() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return not rclpy.ok()


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop, or has built; 0 is a clean end."""
    keep_freed_memory()
    send_in_background()
    rclpy.init(args=args)
    node, code = None, 0
    try:
        # First, because Kilted's executors leave a traceback if the context has ended by then.
        executor = SingleThreadedExecutor()
        node = SegmentationNode()
        executor.add_node(node)
        if node.get_parameter('build_only').value:
            code = 1  # also when it is told to stop before it is built
            task = executor.create_task(node.build)
            executor.spin_until_future_complete(task)
            code = 0 if task.done() and task.result() else 1
        else:
            executor.create_task(node.start)
            executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RuntimeError:  # RCLError is one
        # SIGTERM ends the context under the feet of a transition in progress; SIGINT while a
        # message is taken looks like one that cannot be converted.
        if not _is_told_to_stop():
            raise
    finally:
        # A terminal's Ctrl-C arrives twice under ros2 launch; the second must not cut this short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return code


if __name__ == '__main__':
    sys.exit(main())
