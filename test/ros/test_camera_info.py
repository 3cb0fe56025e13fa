"""A camera's calibration, scaled to the outputs."""

from sensor_msgs.msg import CameraInfo, RegionOfInterest

from offroad_seg_ros.conversions import scale_camera_info

K = [800.0, 0.0, 320.0, 0.0, 600.0, 240.0, 0.0, 0.0, 1.0]
P = [800.0, 0.0, 320.0, -80.0, 0.0, 600.0, 240.0, 30.0, 0.0, 0.0, 1.0, 0.0]


def test_camera_info_at_half_the_size():
    info = CameraInfo(height=480, width=640, k=K, p=P, d=[0.1, 0.2], distortion_model='plumb_bob')
    info.roi.do_rectify = True
    scaled = scale_camera_info(info, (480, 640), (120, 320))
    assert (scaled.height, scaled.width) == (120, 320)
    assert list(scaled.k) == [400, 0, 160, 0, 150, 60, 0, 0, 1]
    assert list(scaled.p) == [400, 0, 160, -40, 0, 150, 60, 7.5, 0, 0, 1, 0]
    assert list(scaled.d) == [0.1, 0.2]
    assert scaled.distortion_model == 'plumb_bob'
    assert scaled.roi.do_rectify
    assert list(info.k) == K  # the driver's message is not touched


def test_camera_info_folds_in_region_and_binning():
    # 2x2 binned frames of a 400x200 region of the sensor: the image is 200x100.
    info = CameraInfo(height=480, width=640, k=K, p=P, binning_x=2, binning_y=2)
    info.roi = RegionOfInterest(x_offset=120, y_offset=40, width=400, height=200)
    scaled = scale_camera_info(info, (100, 200), (100, 200))
    assert list(scaled.k) == [400, 0, 100, 0, 300, 100, 0, 0, 1]
    assert list(scaled.p)[2] == 100
    assert list(scaled.p)[6] == 100
    assert (scaled.binning_x, scaled.roi.width, scaled.roi.x_offset) == (0, 0, 0)


def test_an_uncalibrated_camera_stays_uncalibrated():
    scaled = scale_camera_info(CameraInfo(), (480, 640), (240, 320))
    assert (scaled.height, scaled.width) == (240, 320)
    assert not any(scaled.k)
    assert not any(scaled.p)
